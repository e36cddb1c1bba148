"""Optuna's search: distinct candidates within a budget, the same ones every time, and good ones sooner than by luck."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from laser_sweep.errors import RequestError
from laser_sweep.sweep.protocols import Findings, Score
from laser_sweep.sweep.search.registry import make_search
from laser_sweep.sweep.search.space import Intervention, Place, Space
from laser_sweep.sweep.search.spec import OptunaSpec
from laser_sweep.trial import Edit, Matrix

MakeSpace = Callable[..., Space]
MakeOracle = Callable[..., Any]
Edits = tuple[Edit, ...]

RHOS = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.01, 0.005)
TAUS = ("q_proj", "out_proj", "fc_in", "fc_out")


def begin(*spaces: Space, seed: int = 0, **spec: int) -> Any:
    return make_search(OptunaSpec(**spec), spaces, "accuracy", 100, seed)


def smooth(edits: Edits) -> tuple[float, float]:
    """Best at fc_in[5] ρ = 0.1, and the worse the further away."""
    if not edits:
        return 0.5, 1.0
    [edit] = edits
    away = abs(edit.matrix.layer - 5) + abs(RHOS.index(edit.rho) - 5) + 3 * (edit.matrix.tau != "fc_in")
    return 0.9 - away / 50, 1.0


def asked(asks: list[Any]) -> list[Edits]:
    return [candidate.edits for ask in asks for candidate in ask.candidates]


@pytest.mark.parametrize(
    ("most", "batch", "batches"),
    [(7, 3, [3, 3, 1]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 1, 1]), (50, 5, [5, 5, 2])],
)
def test_the_budget_is_asked_for_in_batches_of_distinct_candidates(
    most: int, batch: int, batches: list[int], make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    """There are twelve of them, and no more are asked for."""
    space = make_space()
    end, asks = make_oracle(lambda edits: (0.5, 1.0)).finish(begin(space, max_trials=most, batch=batch))
    assert [len(ask.candidates) for ask in asks] == batches
    assert len(set(asked(asks))) == sum(batches)
    assert set(asked(asks)) <= {candidate.edits for candidate in space.grid()}
    assert {ask.limit for ask in asks} == {None}
    assert end.notes() == [f"Optuna's TPE chose {sum(batches)} of 12 candidates"]


def test_a_seed_fixes_what_is_asked_and_another_asks_otherwise(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(tau=TAUS, layer=range(8), rho=RHOS)
    oracle = make_oracle(smooth)
    runs = [asked(oracle.finish(begin(space, seed=seed, max_trials=20))[1]) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_what_is_asked_depends_on_what_is_told(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(tau=TAUS, layer=range(8), rho=RHOS)

    def opposite(edits: Edits) -> tuple[float, float]:
        return 1 - smooth(edits)[0], 1.0

    runs = [asked(make_oracle(worth).finish(begin(space, max_trials=30))[1]) for worth in (smooth, opposite)]
    assert runs[0][:4] == runs[1][:4]
    assert runs[0] != runs[1]
    means = [sum(smooth(edits)[0] for edits in run[10:]) / 20 for run in runs]
    assert means[0] > means[1]


def test_the_best_of_a_smooth_objective_is_found_much_sooner_than_by_luck(
    make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    """In random order the best of 288 stands at 144.5 in the mean."""
    space = make_space(tau=TAUS, layer=range(8), rho=RHOS)
    [best] = [candidate.edits for candidate in space.grid() if smooth(candidate.edits)[0] == 0.9]
    places = []
    for seed in range(4):
        _, asks = make_oracle(smooth).finish(begin(space, seed=seed, max_trials=100))
        order = asked(asks)
        places.append(order.index(best) + 1 if best in order else 288)
    assert sum(places) / len(places) < 144.5 / 2


def test_where_the_layers_are_not_alike_only_matrices_that_are_there_are_asked_for(
    make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    """Attention in every third layer, fc_out in all others, and one more place of all layers together."""
    alone = [Matrix("q_proj" if at % 3 == 0 else "fc_out", at) for at in range(9)]
    places = [Place(matrix.tau, matrix.layer, (matrix,)) for matrix in alone]
    places.append(Place("fc_out", None, tuple(matrix for matrix in alone if matrix.tau == "fc_out")))
    space = make_space(places=places, rho=(0.5, 0.1))
    there = {candidate.edits for candidate in space.grid()}
    for most in (12, 20):
        _, asks = make_oracle(lambda edits: (len(edits) / 10, 1.0)).finish(begin(space, max_trials=most))
        assert len(set(asked(asks))) == len(asked(asks)) == most
        assert set(asked(asks)) <= there


def test_interventions_and_their_options_are_chosen_too(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    def by(name: str, **options: Any) -> Space:
        return make_space(
            tau=("fc_in",), layer=(0, 1), intervention=Intervention(name=name, method=name, options=options)
        )

    spaces = by("laser"), by("randomized", power_iterations=[0, 2], seed=1), by("prune")
    _, asks = make_oracle(lambda edits: (0.5, 1.0)).finish(begin(*spaces, max_trials=100))
    methods = [(edits[0].method, dict(edits[0].options).get("power_iterations")) for edits in asked(asks)]
    assert sorted(map(str, methods)) == sorted(
        map(str, [("laser", None), ("prune", None), ("randomized", 0), ("randomized", 2)] * 4)
    )


def test_a_failed_candidate_is_not_asked_for_again_and_counts(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space()
    failed = {candidate.edits for candidate in space.grid()[::2]}
    _, asks = make_oracle(lambda edits: (0.5, 1.0), failed=failed).finish(begin(space, max_trials=10, batch=3))
    assert len(asked(asks)) == len(set(asked(asks))) == 10
    assert failed & set(asked(asks))


def test_a_search_that_is_told_what_is_stored_asks_for_what_it_would_have_asked(
    make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    """Nothing but the answers goes from one process to the next."""
    space = make_space(tau=TAUS, layer=range(8), rho=RHOS)
    oracle = make_oracle(smooth)
    _, asks = oracle.finish(begin(space, max_trials=24))
    for known in range(len(asks)):
        search = begin(space, max_trials=24)
        for ask in asks[:known]:
            found = {
                candidate.edits: Score(value=(smooth(candidate.edits)[0], -1.0), loss=1.0)
                for candidate in ask.candidates
            }
            search = search.tell(Findings(scores=found))
        assert search.ask() == asks[known]


def test_the_objective_is_what_decides_first(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    """What the search learns from is the first figure of a score, which the objective chooses."""
    space = make_space(tau=TAUS, layer=range(8), rho=RHOS)
    oracle = make_oracle(smooth)
    same = make_oracle(lambda edits: (smooth(edits)[0], sum(edit.matrix.layer % 3 for edit in edits)))
    assert asked(oracle.finish(begin(space, max_trials=24))[1]) == asked(same.finish(begin(space, max_trials=24))[1])


def test_optuna_neither_warns_nor_logs(
    make_space: MakeSpace, make_oracle: MakeOracle, caplog: pytest.LogCaptureFixture
) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.INFO):
            warnings.simplefilter("error")
            optuna.create_study()
            heard = sum(record.name.startswith("optuna") for record in caplog.records)
            assert heard
            make_oracle(smooth).finish(begin(make_space(tau=TAUS, layer=range(8), rho=RHOS), max_trials=16))
            assert sum(record.name.startswith("optuna") for record in caplog.records) == heard
    finally:
        optuna.logging.disable_propagation()


def test_a_missing_optuna_is_said_in_one_line(make_space: MakeSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert begin(make_space()).ask() is not None
    monkeypatch.setattr("laser_sweep.sweep.search.optuna.find_spec", lambda name: None)
    with pytest.raises(RequestError) as caught:
        begin(make_space())
    assert str(caught.value) == (
        "search=optuna needs Optuna: pip install 'laser-sweep[optuna]', or give another search"
    )


def test_every_layout_of_a_small_model_is_gone_through_whole(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    """Whichever of four matrices there are, a large enough budget tries them all."""
    four = [Matrix(tau, at) for tau in ("q_proj", "fc_in") for at in range(2)]
    for present in itertools.chain.from_iterable(itertools.combinations(four, n) for n in (1, 2, 3, 4)):
        space = make_space(places=[Place(m.tau, m.layer, (m,)) for m in present], rho=(0.5, 0.1, 1.0))
        _, asks = make_oracle(lambda edits: (0.5, 1.0)).finish(begin(space, max_trials=50))
        assert sorted(asked(asks)) == sorted(candidate.edits for candidate in space.grid())
