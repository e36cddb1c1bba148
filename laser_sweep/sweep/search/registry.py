"""The searches by the name that `search.name` gives."""

from __future__ import annotations

from collections.abc import Sequence

from laser_sweep.measures import Objective
from laser_sweep.sweep.protocols import Search
from laser_sweep.sweep.search.gradient import make_gradient
from laser_sweep.sweep.search.greedy import check_greedy, make_greedy
from laser_sweep.sweep.search.grid import Grid
from laser_sweep.sweep.search.halving import make_halving
from laser_sweep.sweep.search.noise_edge import make_noise_edge
from laser_sweep.sweep.search.optuna import check_optuna, make_optuna
from laser_sweep.sweep.search.racing import check_racing, make_racing
from laser_sweep.sweep.search.space import LOW_RANK, Space, check_varies, distinct, grid
from laser_sweep.sweep.search.spec import (
    GradientSpec,
    GreedySpec,
    GridSpec,
    HalvingSpec,
    NoiseEdgeSpec,
    OptunaSpec,
    RacingSpec,
    SearchSpec,
)


def check_search(spec: SearchSpec, spaces: Sequence[Space], objective: Objective) -> None:
    """Raises RequestError where a search cannot vary what is asked, as far as that shows without a model."""
    if isinstance(spec, GradientSpec | NoiseEdgeSpec):
        check_varies(spec.name, spaces, LOW_RANK, may_be_empty=isinstance(spec, NoiseEdgeSpec))
    elif not isinstance(spec, GridSpec):
        check_varies(spec.name, spaces)
    if isinstance(spec, RacingSpec):
        check_racing(objective)
    if isinstance(spec, GreedySpec):
        check_greedy(spaces)
    if isinstance(spec, OptunaSpec):
        check_optuna()


def make_search(
    spec: SearchSpec, spaces: Sequence[Space], objective: Objective, num_examples: int, seed: int
) -> Search:
    """A search from its beginning, over the union of spaces, that may look at `num_examples` of val.

    Raises RequestError where the search cannot vary what is asked, or asks for more examples than there are.
    """
    spaces = distinct(spaces)
    check_search(spec, spaces, objective)
    match spec:
        case GradientSpec():
            return make_gradient(spec, spaces)
        case HalvingSpec():
            return make_halving(spec, spaces, num_examples)
        case RacingSpec():
            return make_racing(spec, spaces, objective, num_examples)
        case GreedySpec():
            return make_greedy(spec, spaces)
        case NoiseEdgeSpec():
            return make_noise_edge(spaces)
        case OptunaSpec():
            return make_optuna(spec, spaces, seed)
        case GridSpec():
            return Grid(candidates=tuple(grid(spaces)))
