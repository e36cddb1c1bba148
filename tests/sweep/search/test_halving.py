"""Successive halving: rungs and survivors as counted by hand, on the same examples and more, for a part of the cost."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.errors import RequestError
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.search.registry import make_search
from laser_sweep.sweep.search.space import Space
from laser_sweep.sweep.search.spec import GridSpec, HalvingSpec
from laser_sweep.trial import Edit, Trial, TrialResult

MakeSpace = Callable[..., Space]
MakeOracle = Callable[..., Any]
MakeJob = Callable[..., Job]
Run = Callable[..., Any]
Edits = tuple[Edit, ...]

RHOS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
SMALL = HalvingSpec(min_examples=32, reduction=4)


def lower_rank_is_surer(edits: Edits) -> tuple[float, float]:
    """Log-loss and accuracy disagree on all edits."""
    rho = sum(edit.rho + edit.matrix.layer / 1000 for edit in edits) or 2.0
    return rho / 4, rho


def begin(spec: HalvingSpec, space: Space, num_examples: int = 1000) -> Any:
    return make_search(spec, [space], "accuracy", num_examples, 0)


def rungs(asks: list[Any]) -> list[tuple[int, int]]:
    return [(ask.limit, len(ask.candidates)) for ask in asks]


@pytest.mark.parametrize(
    ("spec", "num_examples", "layers", "expected"),
    [
        # 27 candidates; a quarter of them, rounded up, goes on.
        (HalvingSpec(min_examples=32, reduction=4), 1000, 3, [(32, 27), (128, 7), (512, 2), (1000, 1)]),
        (HalvingSpec(min_examples=32, reduction=4), 512, 3, [(32, 27), (128, 7), (512, 2)]),
        (HalvingSpec(min_examples=32, reduction=4), 513, 3, [(32, 27), (128, 7), (512, 2), (513, 1)]),
        (HalvingSpec(min_examples=100, reduction=3), 350, 3, [(100, 27), (300, 9), (350, 3)]),
        (HalvingSpec(min_examples=10, reduction=2), 85, 1, [(10, 9), (20, 5), (40, 3), (80, 2), (85, 1)]),
        (HalvingSpec(min_examples=64, reduction=4), 64, 3, [(64, 27)]),
    ],
)
def test_rungs_and_survivors_are_those_counted_by_hand(
    spec: HalvingSpec,
    num_examples: int,
    layers: int,
    expected: list[tuple[int, int]],
    make_space: MakeSpace,
    make_oracle: MakeOracle,
) -> None:
    space = make_space(tau=("fc_in",), layer=range(layers), rho=RHOS)
    end, asks = make_oracle(lower_rank_is_surer).finish(begin(spec, space, num_examples))
    assert rungs(asks) == expected
    told = ", ".join(f"{count} on {examples:,} examples" for examples, count in expected)
    assert end.notes() == [f"successive halving: {told}"]


@given(least=st.integers(1, 40), reduction=st.integers(2, 6), more=st.integers(0, 2000), candidates=st.integers(1, 40))
def test_each_rung_has_so_many_times_the_examples_and_one_in_so_many_candidates(
    least: int, reduction: int, more: int, candidates: int, make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    space = make_space(tau=("fc_in",), layer=range(candidates), rho=(0.1,))
    search = begin(HalvingSpec(min_examples=least, reduction=reduction), space, least + more)
    _, asks = make_oracle(lower_rank_is_surer).finish(search)
    sizes = [ask.limit for ask in asks]
    assert sizes[0] == least
    assert sizes[-1] == least + more
    assert all(one * reduction == other for one, other in pairwise(sizes[:-1]))
    assert len(sizes) == 1 or sizes[-2] < sizes[-1] <= sizes[-2] * reduction
    counts = [len(ask.candidates) for ask in asks]
    assert counts[0] == candidates
    assert counts[1:] == [math.ceil(count / reduction) for count in counts[:-1]]


def test_those_of_the_lowest_log_loss_go_on_though_others_are_more_accurate(
    make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    space = make_space(tau=("fc_in",), layer=range(3), rho=RHOS)
    _, asks = make_oracle(lower_rank_is_surer).finish(begin(SMALL, space))
    alive = [{(c.rho, c.layer) for c in ask.candidates} for ask in asks]
    assert alive[1] == {(0.1, 0), (0.1, 1), (0.1, 2), (0.2, 0), (0.2, 1), (0.2, 2), (0.3, 0)}
    assert alive[2] == {(0.1, 0), (0.1, 1)}
    assert alive[3] == {(0.1, 0)}


def test_a_candidate_that_failed_is_not_promoted_and_another_has_its_place(
    make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    space = make_space(tau=("fc_in",), layer=range(3), rho=RHOS)
    failed = {c.edits for c in space.grid() if c.rho == 0.1}
    _, asks = make_oracle(lower_rank_is_surer, failed=failed).finish(begin(SMALL, space))
    assert rungs(asks) == [(32, 27), (128, 7), (512, 2), (1000, 1)]
    assert {c.rho for c in asks[1].candidates} == {0.2, 0.3, 0.4}
    assert {(c.rho, c.layer) for c in asks[2].candidates} == {(0.2, 0), (0.2, 1)}


def test_fewer_go_on_where_fewer_are_left(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(tau=("fc_in",), layer=range(3), rho=RHOS)
    failed = {c.edits for c in space.grid()[1:]}
    _, asks = make_oracle(lower_rank_is_surer, failed=failed).finish(begin(SMALL, space))
    assert rungs(asks) == [(32, 27), (128, 1), (512, 1), (1000, 1)]


@pytest.mark.parametrize("least", [11, 12, 500])
def test_more_examples_than_there_are_are_refused_before_anything_runs(
    rig: Callable[..., Any], make_job: MakeJob, least: int
) -> None:
    """Val has 10 examples."""
    parts = rig()
    with pytest.raises(RequestError) as caught:
        parts.run(make_job(search=HalvingSpec(min_examples=least)))
    assert str(caught.value) == (
        f"search.min_examples={least} is more than the 10 examples of val that search=halving may use; give 10 or less"
    )
    assert parts.devices.asked == []


def test_the_limit_of_the_evaluation_bounds_the_examples(make_job: MakeJob, run: Run) -> None:
    with pytest.raises(RequestError, match="more than the 5 examples"):
        run(make_job(search=HalvingSpec(min_examples=6), limit=5))


# Whole sweeps: 1,000 examples of val, of which 900 may be used


@pytest.fixture
def job(make_job: MakeJob) -> Job:
    return make_job(tau=("fc_in",), layer=(0, 1, 2), rho=RHOS, examples=5000, limit=900, seed=7, search=SMALL)


def effect(trial: Trial) -> tuple[float, float]:
    """The surest by far is not the most accurate one."""
    [rho] = [edit.rho for edit in trial.edits] or [2.0]
    at = sum(edit.matrix.layer for edit in trial.edits)
    return (0.9 if (rho, at) == (0.9, 2) else 0.5 - rho / 10), 1.0 + abs(rho - 0.3) + at / 100


def test_every_rung_asks_the_examples_of_the_one_before_and_more(
    run: Run, job: Job, simulated: Callable[..., Any]
) -> None:
    ran = run(job, measure=simulated(effect, job))
    by_size: defaultdict[int, set[tuple[str, ...]]] = defaultdict(set)
    untouched = []
    for batch in ran.devices.asked[:-1]:
        for trial in batch:
            asked = trial.evaluation
            ids = tuple(example.id for example in job.task.split(asked.split, asked.limit, asked.seed))
            by_size[len(ids)].add(ids)
            untouched += [len(ids)] * trial.untouched
    assert sorted(by_size) == [32, 128, 512, 900]
    assert {len(asked) for asked in by_size.values()} == {1}  # the same for all of a rung
    examples = [set(ids) for size in sorted(by_size) for ids in by_size[size]]
    assert all(few < more for few, more in pairwise(examples))
    assert sorted(untouched) == sorted(by_size)


def test_the_cost_is_far_below_that_of_the_whole_grid(
    run: Run, job: Job, make_job: MakeJob, simulated: Callable[..., Any]
) -> None:
    def evaluated(ran: Any) -> int:
        return sum(
            result.measured().num_examples
            for result in ran.outcome.results.values()
            if result.trial.evaluation.split == "val"
        )

    halved = run(job, measure=simulated(effect, job))
    assert evaluated(halved) == 28 * 32 + 8 * 128 + 3 * 512 + 2 * 900
    whole = make_job(layer=(0, 1, 2), rho=RHOS, examples=5000, limit=900, seed=7, search=GridSpec())
    assert evaluated(halved) < evaluated(run(whole, measure=simulated(effect, whole), resume="never")) / 4


@pytest.mark.parametrize(("objective", "layer"), [("accuracy", 2), ("log_loss", 0)])
def test_the_last_rung_decides_by_the_objective(
    run: Run, make_job: MakeJob, simulated: Callable[..., Any], objective: str, layer: int
) -> None:
    """Of the three that get there one is the most accurate, another the surest."""
    spec = HalvingSpec(min_examples=112, reduction=9)
    job = make_job(layer=(0, 1, 2), rho=RHOS, examples=5000, search=spec, objective=objective)

    def three_are_sure(trial: Trial) -> tuple[float, float]:
        [rho] = [edit.rho for edit in trial.edits] or [1.0]
        at = sum(edit.matrix.layer for edit in trial.edits)
        return (0.5 + at / 10, 1.0 + at / 10) if rho == 0.1 else (0.4, 3.0)

    ran = run(job, measure=simulated(three_are_sure, job))
    assert ran.outcome.searches[0].history == ((112, 27), (1000, 3))
    winner = ran.outcome.confirmed[0][0].winner.trial
    assert (winner.rho, winner.layer) == (0.1, layer)


def test_a_candidate_that_fails_on_few_examples_is_not_asked_more(
    run: Run, job: Job, simulated: Callable[..., Any]
) -> None:
    measure = simulated(effect, job)

    def fail_the_best(trial: Trial) -> TrialResult:
        broken = trial.rho == 0.3 and trial.layer == 0
        return TrialResult(trial=trial, status="failed", error="it broke") if broken else measure(trial)

    ran = run(job, measure=fail_the_best)
    assert [result.trial.evaluation.limit for result in ran.outcome.failed] == [32]
    winner = ran.outcome.confirmed[0][0].winner.trial
    assert (winner.rho, winner.layer) == (0.3, 1)
