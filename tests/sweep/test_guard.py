"""Winners that another data set must not suffer from: the best candidate that the guard allows."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import GuardSpec, Job, build_jobs
from laser_sweep.sweep.plan import compare, plan_sweep
from laser_sweep.sweep.search.spec import GreedySpec, GridSpec, HalvingSpec, OptunaSpec, SearchSpec
from laser_sweep.sweep.summary import print_outcome, print_plan
from laser_sweep.trial import Trial, TrialResult

MakeJob = Callable[..., Job]
Run = Callable[..., Any]
Simulated = Callable[..., Callable[[Trial], TrialResult]]


def summary(ran: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_outcome(console, ran.outcome, "store")
    return console.file.getvalue()


def by_table(table: Mapping[str, Mapping[int | None, tuple[float, float]]]) -> Callable[[Trial], tuple[float, float]]:
    """(accuracy, log-loss) by data set and layer."""
    return lambda trial: table[trial.evaluation.dataset][trial.edits[0].matrix.layer if trial.edits else None]


def guarded(
    make_job: MakeJob, *, bound: float = 0.1, layers: int = 4, size: int = 500, **asked: Any
) -> tuple[Job, Job]:
    """A job and its guard's; the higher the layer, the better the candidate on val."""
    guard = make_job(dataset="guard", examples=60)
    return make_job(layer=range(layers), examples=size, guard=guard, bound=bound, **asked), guard


def the_higher_the_better(refused: int, layers: int = 4) -> Callable[[Trial], tuple[float, float]]:
    """So many of the best candidates cost the guard's data set half a nat, all others 0.05."""

    def effect(trial: Trial) -> tuple[float, float]:
        at = trial.edits[0].matrix.layer if trial.edits else -1
        if trial.evaluation.dataset != "guard":
            return 0.3 + at / 100, 1.0
        return 0.5, 2.0 if not trial.edits else 2.5 if at >= layers - refused else 2.05

    return effect


def guard_trials(ran: Any) -> list[Trial]:
    return [trial for batch in ran.devices.asked for trial in batch if trial.evaluation.dataset == "guard"]


@pytest.mark.parametrize("refused", [0, 1, 3])
def test_the_best_candidate_that_the_guard_allows_wins(
    refused: int, run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    job, guard = guarded(make_job)
    ran = run(job, measure=simulated(the_higher_the_better(refused), job, guard))
    assert ran.outcome.confirmed[0][0].winner.trial.layer == 3 - refused
    found = ran.outcome.guarded[0]
    assert [result.trial.layer for result in found.refused] == [3 - n for n in range(refused)]
    assert (found.winner.trial.layer, found.untouched.trial.untouched) == (3 - refused, True)
    assert {trial.evaluation.split for trial in guard_trials(ran)} == {"val"}
    assert {trial.evaluation.dataset for trial in ran.devices.asked[-1]} == {"colours"}


@pytest.mark.parametrize(("loss", "layer"), [(2.1, 1), (2.1001, 0)])
def test_the_bound_is_on_the_log_loss_above_the_untouched_model(
    loss: float, layer: int, run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    """Not on accuracy, which the edit takes away."""
    job, guard = guarded(make_job, bound=0.1 + 1e-9, layers=2)
    table = {
        "colours": {None: (0.2, 1.0), 0: (0.4, 1.0), 1: (0.6, 1.0)},
        "guard": {None: (0.9, 2.0), 0: (0.9, 1.0), 1: (0.1, loss)},
    }
    ran = run(job, measure=simulated(by_table(table), job, guard))
    assert ran.outcome.confirmed[0][0].winner.trial.layer == layer


@pytest.mark.parametrize("bound", [0.0, 0.1])
def test_the_untouched_model_is_always_allowed(bound: float, run: Run, make_job: MakeJob, simulated: Simulated) -> None:
    """Here the guard refuses all others, and val prefers each of them."""
    job, guard = guarded(make_job, bound=bound)
    ran = run(job, measure=simulated(the_higher_the_better(4), job, guard))
    assert ran.outcome.confirmed[0][0].winner.trial.untouched
    assert len(ran.outcome.guarded[0].refused) == 4
    text = summary(ran)
    assert "guard guard refused 4 candidates that val prefers" in text
    assert "no edit is better than the untouched model on val" not in text


def test_a_candidate_that_fails_on_the_guards_data_set_is_refused(
    run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    job, guard = guarded(make_job)
    measure = simulated(the_higher_the_better(0), job, guard)

    def fail_layer_3_there(trial: Trial) -> TrialResult:
        broken = trial.layer == 3 and trial.evaluation.dataset == "guard"
        return TrialResult(trial=trial, status="failed", error="it broke") if broken else measure(trial)

    ran = run(job, measure=fail_layer_3_there)
    assert ran.outcome.confirmed[0][0].winner.trial.layer == 2
    assert [result.error for result in ran.outcome.failed] == ["it broke"]
    assert "refused 1 candidate that val prefers; the best of them, fc_in[3] rho=0.1: failed" in summary(ran)


@pytest.mark.parametrize("refused", [0, 1, 7, 8, 20, 30])
def test_the_guard_looks_at_few_more_candidates_than_it_must(
    refused: int, run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    """Of 30: those that it refuses, the first that passes, and at most seven beside it, and each once."""
    job, guard = guarded(make_job, layers=30)
    ran = run(job, measure=simulated(the_higher_the_better(refused, layers=30), job, guard))
    edited = [trial for trial in guard_trials(ran) if not trial.untouched]
    needed = min(refused + 1, 30)
    assert needed <= len(edited) <= needed + 8
    assert len(guard_trials(ran)) == len({trial.key for trial in guard_trials(ran)}) == len(edited) + 1


def test_what_the_guard_said_is_told(run: Run, make_job: MakeJob, simulated: Simulated) -> None:
    job, guard = guarded(make_job)
    text = summary(run(job, measure=simulated(the_higher_the_better(2), job, guard)))
    assert "guard guard: log-loss 2.000 untouched, 2.050 the winner" in text
    assert "guard guard refused 2 candidates that val prefers; the best of them, fc_in[3] rho=0.1: 2.500" in text
    text = summary(run(job, measure=simulated(the_higher_the_better(0), job, guard), resume="never"))
    assert "refused" not in text


def test_where_the_guard_cannot_be_asked_nothing_wins_not_even_the_untouched_model(
    run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    job, guard = guarded(make_job)
    measure = simulated(the_higher_the_better(0), job, guard)

    def without_guard(trial: Trial) -> TrialResult:
        broken = trial.evaluation.dataset == "guard"
        return TrialResult(trial=trial, status="failed", error="no such file") if broken else measure(trial)

    ran = run(job, measure=without_guard)
    assert not ran.outcome.confirmed
    assert not any(trial.evaluation.split == "test" for batch in ran.devices.asked for trial in batch)
    assert ran.outcome.failed
    assert "no edit is better than the untouched model on val" not in summary(ran)


def test_other_bounds_and_other_guards_are_other_decisions(make_job: MakeJob) -> None:
    guard, other = make_job(dataset="guard"), make_job(dataset="another")
    jobs = [
        make_job(),
        make_job(guard=guard, bound=0.1),
        make_job(guard=guard, bound=0.1, rho=(0.5,)),
        make_job(guard=guard, bound=0.2),
        make_job(guard=other, bound=0.1),
    ]
    assert [len(comparison.members) for comparison in compare(jobs)] == [1, 2, 1, 1]


@pytest.mark.parametrize(
    "search",
    [GridSpec(), HalvingSpec(min_examples=20, reduction=2), GreedySpec(), OptunaSpec(max_trials=4)],
    ids=lambda search: search.name,
)
def test_a_guarded_sweep_that_is_killed_after_every_result_comes_to_the_same_end(
    search: SearchSpec, rig: Callable[..., Any], run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    job, guard = guarded(make_job, search=search)
    measure = simulated(the_higher_the_better(1), job, guard)
    lived: list[str] = []

    def dies_at_the_second(alive: list[bool]) -> Callable[[Trial], TrialResult]:
        def one(trial: Trial) -> TrialResult:
            if not alive:
                raise KeyboardInterrupt
            alive.pop()
            lived.append(trial.key)
            return measure(trial)

        return one

    for _ in range(100):
        parts = rig(dies_at_the_second([True]))
        try:
            parts.run(job)
        except KeyboardInterrupt:
            continue
        break
    whole = run(job, measure=measure, resume="never")
    assert lived == [trial.key for batch in whole.devices.asked for trial in batch]
    assert parts.outcome.confirmed[0][0].winner.trial == whole.outcome.confirmed[0][0].winner.trial
    assert parts.outcome.guarded[0].refused == whole.outcome.guarded[0].refused


def test_a_signal_while_the_guard_looks_confirms_nothing(run: Run, make_job: MakeJob, simulated: Simulated) -> None:
    """Which candidate wins is not known then; the next sweep goes on with the guard."""
    job, guard = guarded(make_job)
    measure = simulated(the_higher_the_better(1), job, guard)

    def interrupted(trial: Trial) -> TrialResult:
        if trial.evaluation.dataset == "guard" and trial.untouched:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(trial)

    ran = run(job, measure=interrupted)
    assert ran.outcome.interrupted
    assert not ran.outcome.confirmed
    assert not ran.outcome.guarded
    assert not any(trial.evaluation.split == "test" for batch in ran.devices.asked for trial in batch)
    again = run(job, measure=measure)
    assert again.outcome.confirmed[0][0].winner.trial.layer == 2


def test_the_guard_asks_the_same_model_as_many_examples_as_it_says(demo_job: Callable[..., Job]) -> None:
    question = demo_job().question
    data = DatasetSpec(name="other", format="prompt_answer", path=question.dataset.path)
    spec = GuardSpec(dataset=data, bound=0.3, limit=7)
    [job] = build_jobs([replace(question, guard=spec)])
    assert job.guard is not None
    assert job.guard.checkpoint == job.checkpoint
    assert (job.num_examples("val"), job.guard.num_examples("val")) == (50, 7)
    assert job.guard.guard is None


def test_the_guard_does_not_look_before_there_is_something_to_choose(
    run: Run, make_job: MakeJob, simulated: Simulated
) -> None:
    """But for a composition, which asks it at every step, a search is over before the guard is measured."""
    for search in (GridSpec(), HalvingSpec(min_examples=20, reduction=2)):
        job, guard = guarded(make_job, search=search)
        ran = run(job, measure=simulated(the_higher_the_better(0), job, guard), resume="never")
        datasets = [{trial.evaluation.dataset for trial in batch} for batch in ran.devices.asked]
        assert datasets == [{"colours"}] * (len(datasets) - 2) + [{"guard"}, {"colours"}]


def test_a_plan_counts_what_the_guard_is_asked_with_the_first_step(make_job: MakeJob, store: ParquetStore) -> None:
    """A composition: the untouched model and one candidate on each of the two data sets, of 1,000 tokens a trial."""
    job, _ = guarded(make_job, search=GreedySpec())
    console = Console(file=io.StringIO(), width=120)
    print_plan(console, [job], plan_sweep([job], store, "auto"), "some/where")
    text = console.file.getvalue()
    assert "to run 4" in text
    assert "estimated cost: 4,000 tokens" in text
