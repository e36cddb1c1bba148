"""All searches alike: each is a value, comes to an end, and says what it cannot vary."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.errors import RequestError
from laser_sweep.measures import Objective
from laser_sweep.probe import Spectrum
from laser_sweep.sweep.protocols import AskTrials, Findings, Search
from laser_sweep.sweep.search.registry import make_search
from laser_sweep.sweep.search.space import Intervention, Space, grid
from laser_sweep.sweep.search.spec import (
    SPECS,
    GradientSpec,
    GreedySpec,
    GridSpec,
    HalvingSpec,
    NoiseEdgeSpec,
    OptunaSpec,
    RacingSpec,
    SearchSpec,
)
from laser_sweep.trial import Edit, Matrix

MakeSpace = Callable[..., Space]
MakeOracle = Callable[..., Any]
NUM_EXAMPLES = 64

SEARCHES: dict[str, SearchSpec] = {
    "grid": GridSpec(),
    "gradient": GradientSpec(gradient_samples=5, top_matrices=2),
    "gradient, published score": GradientSpec(gradient_samples="all", top_matrices=2, score="last20"),
    "halving": HalvingSpec(min_examples=8, reduction=2),
    "racing": RacingSpec(min_examples=8),
    "greedy": GreedySpec(),
    "greedy, few trials": GreedySpec(max_trials=3),
    "noise_edge": NoiseEdgeSpec(),
    "optuna": OptunaSpec(max_trials=7, batch=2),
}
ADAPTIVE = [name for name in SEARCHES if name != "grid"]
each_search = pytest.mark.parametrize("name", SEARCHES)


def begin(name: str, *spaces: Space, objective: Objective = "accuracy", seed: int = 0) -> Search:
    return make_search(SEARCHES[name], spaces, objective, NUM_EXAMPLES, seed)


def worth(edits: tuple[Edit, ...]) -> tuple[float, float]:
    """Better the higher the layer and the lower the rank, but for one matrix, which is better left alone."""
    good = sum((edit.matrix.layer + 1) * (1 - edit.rho) * (-1 if edit.matrix.tau == "fc_out" else 1) for edit in edits)
    return 0.5 + good / 16, 1.0 - good / 16


@pytest.fixture(scope="module")
def oracle(make_oracle: MakeOracle, make_spectrum: Callable[..., Spectrum]) -> Any:
    def spectrum(matrix: Matrix) -> Spectrum:
        random = np.random.default_rng(matrix.layer + 10 * len(matrix.tau))
        return make_spectrum(matrix, np.sort(random.exponential(size=30))[::-1], random.standard_normal(30))

    return make_oracle(worth, spectrum, num_examples=NUM_EXAMPLES)


def states(search: Search, oracle: Any) -> list[Search]:
    """Every state of a search, from the beginning to the end."""
    found = [search]
    while (ask := found[-1].ask()) is not None:
        assert len(found) < 100, "the search never ends"
        found.append(found[-1].tell(oracle.answer(ask)))
    return found


# Values


@each_search
def test_asking_twice_is_asking_once(name: str, make_space: MakeSpace, oracle: Any) -> None:
    for state in states(begin(name, make_space()), oracle):
        assert state.ask() == state.ask()


@each_search
def test_telling_makes_another_search_and_leaves_the_old_one_as_it_was(
    name: str, make_space: MakeSpace, oracle: Any
) -> None:
    [*going, _] = states(begin(name, make_space()), oracle)
    assert going
    for state in going:
        before, ask, notes = copy.deepcopy(state), state.ask(), list(state.notes())
        told = state.tell(oracle.answer(ask))
        assert told is not state
        assert told != before
        assert state == before
        assert (state.ask(), list(state.notes())) == (ask, notes)


@each_search
def test_the_same_answers_lead_to_the_same_state(name: str, make_space: MakeSpace, oracle: Any) -> None:
    one, other = (states(begin(name, make_space()), oracle) for _ in range(2))
    assert one == other
    assert [state.notes() for state in one] == [state.notes() for state in other]


@each_search
def test_the_same_failures_lead_to_the_same_state(name: str, make_space: MakeSpace, oracle: Any) -> None:
    space = make_space()
    broken = dataclasses.replace(oracle, failed={candidate.edits for candidate in space.grid()[::2]})
    one, other = (states(begin(name, space), broken) for _ in range(2))
    assert one == other


@each_search
def test_no_field_of_a_search_can_be_set(name: str, make_space: MakeSpace, oracle: Any) -> None:
    for state in states(begin(name, make_space()), oracle):
        for field in dataclasses.fields(state):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(state, field.name, None)


# Ends


@each_search
def test_a_search_ends_where_everything_fails(name: str, make_space: MakeSpace, oracle: Any) -> None:
    search = begin(name, make_space())
    for _ in range(100):
        ask = search.ask()
        if ask is None:
            break
        search = search.tell(Findings() if isinstance(ask, AskTrials) else oracle.answer(ask))
    assert search.ask() is None


@given(
    layers=st.sets(st.integers(0, 5), min_size=1, max_size=3),
    rhos=st.lists(st.sampled_from([0.01, 0.1, 0.5, 0.9]), min_size=1, max_size=3),
    quality=st.randoms(use_true_random=False),
)
@pytest.mark.parametrize("name", [name for name in SEARCHES if name != "optuna"])
def test_a_search_asks_for_what_there_is_and_for_nothing_twice_on_as_many_examples(
    name: str, layers: set[int], rhos: list[float], quality: Any, make_space: MakeSpace, oracle: Any
) -> None:
    space = make_space(tau=("fc_in",), layer=sorted(layers), rho=rhos)
    drawn: dict[tuple[Edit, ...], tuple[float, float]] = {}

    def random_worth(edits: tuple[Edit, ...]) -> tuple[float, float]:
        return drawn.setdefault(edits, (quality.random(), quality.random()))

    _, asks = dataclasses.replace(oracle, worth=random_worth).finish(begin(name, space))
    asked = [(c.edits, ask.limit) for ask in asks if isinstance(ask, AskTrials) for c in ask.candidates]
    assert len(asked) == len(set(asked))
    edits = {edit for one, _ in asked for edit in one}
    there = {edit for candidate in space.grid() for edit in candidate.edits}
    assert {edit.matrix for edit in edits} <= {edit.matrix for edit in there}
    assert name == "noise_edge" or edits <= there


def test_every_name_makes_a_search_of_its_own(make_space: MakeSpace) -> None:
    made = {name: make_search(spec(), [make_space()], "accuracy", NUM_EXAMPLES, 0) for name, spec in SPECS.items()}
    assert len({type(search) for search in made.values()}) == len(made) == 7


def test_the_grid_asks_once_for_everything_in_full(make_space: MakeSpace, oracle: Any) -> None:
    spaces = make_space(), make_space(layer=(2, 3))
    _, [ask] = oracle.finish(begin("grid", *spaces))
    assert ask == AskTrials(candidates=tuple(grid(spaces)))
    assert len(ask.candidates) == 2 * 4 * 2


# What cannot be varied


def of(method: Any) -> Intervention:
    return Intervention(name=f"my-{method}", method=method)


@pytest.mark.parametrize("method", ["zero", "none", "prune"])
@pytest.mark.parametrize("name", ADAPTIVE)
def test_an_intervention_that_a_search_cannot_vary_is_said(name: str, method: str, make_space: MakeSpace) -> None:
    spaces = make_space(), make_space(intervention=of(method))
    search = SEARCHES[name].name
    if method == "prune" and search not in ("gradient", "noise_edge"):
        begin(name, make_space(intervention=of("prune")))  # ρ is a fraction of the entries there
        return
    with pytest.raises(RequestError) as caught:
        begin(name, *spaces)
    message = str(caught.value)
    assert message.startswith(f"search={search} cannot vary intervention=my-{method} ({method}); give ")
    assert "laser or randomized or clustered" in message
    assert ("prune" in message.removeprefix(f"search={search} cannot vary intervention=my-{method} ({method})")) == (
        search not in ("gradient", "noise_edge")
    )
    assert message.endswith("or search=grid")


@pytest.mark.parametrize("method", ["laser", "zero", "none", "prune"])
def test_a_grid_is_made_of_any_intervention(method: str, make_space: MakeSpace, oracle: Any) -> None:
    _, [ask] = oracle.finish(begin("grid", make_space(intervention=of(method))))
    assert len(ask.candidates) == {"laser": 12, "prune": 12, "zero": 6, "none": 0}[method]


@pytest.mark.parametrize("name", ADAPTIVE)
def test_rho_of_one_alone_leaves_nothing_to_choose_from(name: str, make_space: MakeSpace, oracle: Any) -> None:
    space = make_space(rho=(1.0, 1.0))
    if name == "noise_edge":
        assert oracle.finish(begin(name, space))[1]  # it finds fractions of its own
        return
    with pytest.raises(
        RequestError, match=rf"^search={SEARCHES[name].name} .*rho=1 keeps everything; give smaller rho"
    ):
        begin(name, space)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_rho_of_one_among_others_is_no_candidate(name: str, make_space: MakeSpace, oracle: Any) -> None:
    _, asks = oracle.finish(begin(name, make_space(rho=(1.0, 0.5, 0.1))))
    assert all(edit.rho < 1 for ask in asks if isinstance(ask, AskTrials) for c in ask.candidates for edit in c.edits)


@pytest.mark.parametrize("objective", ["mean_accuracy", "mean_log_loss"])
def test_a_race_over_several_data_sets_is_refused(objective: Objective, make_space: MakeSpace) -> None:
    with pytest.raises(RequestError, match=rf"^search=racing .*objective={objective}.*objective=accuracy or log_loss"):
        begin("racing", make_space(), objective=objective)


@pytest.mark.parametrize("name", [name for name in ADAPTIVE if name != "racing"])
def test_all_other_searches_take_means_over_data_sets(name: str, make_space: MakeSpace) -> None:
    """Each data set brings the space of its job, which are alike."""
    assert begin(name, make_space(), make_space(), objective="mean_log_loss").ask() is not None


@pytest.mark.parametrize("name", ["halving", "racing"])
def test_more_examples_than_there_are_to_begin_with_are_said(name: str, make_space: MakeSpace) -> None:
    spec = dataclasses.replace(SEARCHES[name], min_examples=1_250)
    with pytest.raises(RequestError) as caught:
        make_search(spec, [make_space()], "accuracy", 1_249, 0)
    assert str(caught.value) == (
        f"search.min_examples=1250 is more than the 1,249 examples of val that search={name} may use; give 1249 or less"
    )
    assert make_search(spec, [make_space()], "accuracy", 1_250, 0).ask() is not None
