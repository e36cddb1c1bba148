"""Winners that several data sets share, and what it is that decides."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from rich.console import Console

from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.search.spec import GreedySpec, GridSpec, HalvingSpec, OptunaSpec, SearchSpec
from laser_sweep.sweep.summary import print_outcome
from laser_sweep.trial import Trial, TrialResult

MakeJob = Callable[..., Job]
Run = Callable[..., Any]
Simulated = Callable[..., Callable[[Trial], TrialResult]]
Table = Mapping[str, Mapping[int | None, tuple[float, float]]]


def by_table(table: Table) -> Callable[[Trial], tuple[float, float]]:
    """(accuracy, log-loss) by data set and layer, the same on val and test."""
    return lambda trial: table[trial.evaluation.dataset][trial.edits[0].matrix.layer if trial.edits else None]


def summary(ran: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_outcome(console, ran.outcome, "store")
    return console.file.getvalue()


def winners(ran: Any) -> list[tuple[int, list[str], int | None]]:
    """Of each comparison: its place, its data sets on test, and the layer that won."""
    return [
        (place, [one.winner.trial.evaluation.dataset for one in confirmed], confirmed[0].winner.trial.layer)
        for place, confirmed in sorted(ran.outcome.confirmed.items())
    ]


# One winner for several data sets

# 0 is best on colours, 1 on shapes, 2 by both means though on neither.
SHARED: Table = {
    "colours": {None: (0.4, 1.0), 0: (0.9, 0.1), 1: (0.3, 2.0), 2: (0.7, 0.5)},
    "shapes": {None: (0.4, 1.0), 0: (0.3, 2.0), 1: (0.9, 0.1), 2: (0.8, 0.4)},
}


@pytest.mark.parametrize("objective", ["mean_accuracy", "mean_log_loss"])
def test_the_best_by_the_mean_wins_though_it_is_best_on_no_data_set(
    objective: str, run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    jobs = [make_job(dataset=name, objective=objective) for name in SHARED]
    ran = run(*jobs, measure=simulated(by_table(SHARED), *jobs))
    assert winners(ran) == [(0, ["colours", "shapes"], 2)]
    confirmed = ran.outcome.confirmed[0]
    assert [one.winner.measured().accuracy for one in confirmed] == pytest.approx([0.7, 0.8])
    assert [one.gain.gain for one in confirmed] == pytest.approx([0.3, 0.4])
    assert [ran.outcome.objective(job) for job in jobs] == pytest.approx([0.75 if "acc" in objective else 0.45] * 2)


@pytest.mark.parametrize("objective", ["accuracy", "log_loss"])
def test_without_a_mean_each_data_set_has_its_own_winner(
    objective: str, run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    jobs = [make_job(dataset=name, objective=objective) for name in SHARED]
    ran = run(*jobs, measure=simulated(by_table(SHARED), *jobs))
    assert winners(ran) == [(0, ["colours"], 0), (1, ["shapes"], 1)]


@pytest.mark.parametrize(
    ("objective", "layer"), [("accuracy", 1), ("log_loss", 2), ("mean_accuracy", 1), ("mean_log_loss", 2)]
)
def test_the_objective_says_which_figure_decides(
    objective: str, layer: int, run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    """Layer 1 is the most accurate, beside layer 0, which is less sure; layer 2 is the surest, beside the untouched
    model, which is less accurate."""
    table = {"colours": {None: (0.5, 0.8), 0: (0.9, 2.0), 1: (0.9, 1.5), 2: (0.6, 0.8)}}
    job = make_job(objective=objective)
    ran = run(job, measure=simulated(by_table(table), job))
    assert winners(ran)[0][2] == layer
    best = ran.outcome.ranked(ran.outcome.comparisons[0])[0]
    assert ran.outcome.objective(job) == pytest.approx(best.loss if "loss" in objective else best.score)


def test_a_candidate_that_failed_on_one_data_set_takes_no_part(
    run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    jobs = [make_job(dataset=name, objective="mean_accuracy") for name in SHARED]
    measure = simulated(by_table(SHARED), *jobs)

    def fail_layer_2_on_shapes(trial: Trial) -> TrialResult:
        broken = trial.layer == 2 and trial.evaluation.dataset == "shapes"
        return TrialResult(trial=trial, status="failed", error="it broke") if broken else measure(trial)

    ran = run(*jobs, measure=fail_layer_2_on_shapes)
    assert winners(ran)[0][2] in (0, 1)
    assert len(ran.outcome.ranked(ran.outcome.comparisons[0])) == 3


@pytest.mark.parametrize(
    "search",
    [GridSpec(), HalvingSpec(min_examples=8, reduction=3), OptunaSpec(max_trials=3), GreedySpec(max_trials=6)],
    ids=lambda search: search.name,
)
def test_every_search_but_racing_decides_by_means(
    search: SearchSpec, run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    """Layer 2, from which a composition begins, is so good that nothing on top of it is better."""
    jobs = [make_job(dataset=name, examples=200, objective="mean_accuracy", search=search) for name in SHARED]
    sure = {name: {**of, 2: (of[2][0], 0.1)} for name, of in SHARED.items()}

    def effect(trial: Trial) -> tuple[float, float]:
        return by_table(sure)(trial) if len(trial.edits) < 2 else (0.1, 9.0)

    ran = run(*jobs, measure=simulated(effect, *jobs))
    assert winners(ran) == [(0, ["colours", "shapes"], 2)]
    asked = [trial for batch in ran.devices.asked for trial in batch]
    assert len({trial.key for trial in asked}) == len(asked)
    alike = Counter((trial.edits, trial.evaluation.split, trial.evaluation.limit) for trial in asked)
    assert set(alike.values()) == {2}  # whatever is asked of one data set is asked of the other


def test_rungs_go_up_to_all_of_the_smallest_data_set_and_the_last_asks_all_of_each(
    run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    """Val has 100 examples of the one and 40 of the other."""
    search = HalvingSpec(min_examples=10, reduction=3)
    jobs = [
        make_job(dataset=name, examples=size, objective="mean_accuracy", search=search)
        for name, size in (("colours", 500), ("shapes", 200))
    ]
    ran = run(*jobs, measure=simulated(by_table(SHARED), *jobs))
    sizes = [
        {result.measured().num_examples for trial in batch for result in [ran.outcome.results[trial.key]]}
        for batch in ran.devices.asked[:-1]
    ]
    assert sizes == [{10}, {30}, {40, 100}]


def test_the_shared_winner_is_told_for_each_data_set(run: Run, make_job: MakeJob, simulated: Simulated) -> None:
    jobs = [make_job(dataset=name, examples=500, objective="mean_log_loss") for name in SHARED]
    text = summary(run(*jobs, measure=simulated(by_table(SHARED), *jobs)))
    assert "tiny on colours, val (100 examples)" in text
    assert "tiny on shapes, val (100 examples)" in text
    assert "one winner for 2 data sets, by mean_log_loss" in text
    assert "colours, on test (400 examples, looked at once): untouched 40.0 ± 2.4 %, log-loss 1.000" in text
    assert "shapes, on test (400 examples, looked at once): untouched 40.0 ± 2.4 %, log-loss 1.000" in text
    assert "winner laser fc_in[2] rho=0.1: 70.0 ± 2.3 %, log-loss 0.500, gain +30.0" in text
    assert "winner laser fc_in[2] rho=0.1: 80.0 ± 2.0 %, log-loss 0.400, gain +40.0" in text


def test_a_guard_holds_for_a_winner_of_several_data_sets(run: Run, make_job: MakeJob, simulated: Simulated) -> None:
    """Layer 2 is best by the mean and refused; 1 is next."""
    guard = make_job(dataset="guard", examples=60)
    jobs = [make_job(dataset=name, objective="mean_accuracy", guard=guard, bound=0.2) for name in SHARED]
    table = {**SHARED, "guard": {None: (0.5, 1.0), 0: (0.5, 9.0), 1: (0.5, 1.1), 2: (0.5, 1.3)}}
    ran = run(*jobs, measure=simulated(by_table(table), *jobs, guard))
    assert winners(ran) == [(0, ["colours", "shapes"], 1)]
    asked = [t.key for batch in ran.devices.asked for t in batch if t.evaluation.dataset == "guard"]
    assert len(asked) == len(set(asked)) == 4
