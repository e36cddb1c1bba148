"""The heat maps that a tracker shows of the grids among its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from laser_sweep.store.schema import TRIALS

if TYPE_CHECKING:
    import plotly.graph_objects as go

_SMALLEST = 2  # layers and fractions; fewer make a line, not a map


def heat_maps(rows: Iterable[Mapping[str, Any]]) -> dict[str, go.Figure]:
    """A figure by name, `heat_map/<model>/<data set>/<τ>`, for each matrix type of which a grid was run on val.

    `rows` are those of the store. Trials on part of the examples that others were measured on count for nothing.
    """
    from laser_sweep.analysis.comparisons import comparisons
    from laser_sweep.figures import gain_heat_map

    trials = pa.Table.from_pylist([dict(row) for row in rows], schema=TRIALS).to_pandas()
    figures: dict[str, go.Figure] = {}
    examples: dict[str, float] = {}
    for view in comparisons(trials):
        if view.split != "val":
            continue
        asked = float("inf") if view.limit is None else view.limit
        for tau, cells in view.trials.groupby("tau"):
            name = f"heat_map/{view.model}/{view.dataset}/{tau}"
            grid = all(cells[axis].nunique() >= _SMALLEST for axis in ("layer", "rho"))
            if grid and asked > examples.get(name, 0):
                figures[name] = gain_heat_map(view.trials, str(tau)).figure
                examples[name] = asked
    return figures
