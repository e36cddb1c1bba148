"""A whole sweep with a real store and devices that answer at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import binomtest

from laser_sweep.errors import RequestError
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.protocols import WorkUnit
from laser_sweep.sweep.run import Outcome, Sweep
from laser_sweep.sweep.tracking.tracker import GuardedTracker, NullTracker
from laser_sweep.trial import Seconds, Trial, TrialResult

MakeJob = Callable[..., Job]
Answered = Callable[..., TrialResult]
Answers = npt.NDArray[np.bool_]
SIZES = {"val": 10, "test": 40}


class Devices:
    """An Executor: measures trials with a function, in the order of the units or another one."""

    def __init__(
        self,
        measure: Callable[[Trial], TrialResult],
        order: Callable[[list[Trial]], Sequence[Trial]] = lambda trials: trials,
    ) -> None:
        self._measure = measure
        self._order = order
        self._draining = False
        self.asked: list[list[Trial]] = []
        self.closed = 0

    def run(self, units: Sequence[WorkUnit]) -> Iterator[TrialResult]:
        trials = [trial for unit in units for trial in unit.trials]
        self.asked.append(trials)
        for trial in self._order(trials):
            if self._draining:
                return
            yield self._measure(trial)

    def drain(self) -> None:
        self._draining = True

    def close(self) -> None:
        self.closed += 1


class Watcher:
    """A Progress that writes down what it is told."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.results: list[TrialResult] = []
        self.notes: list[str] = []
        self.stops = 0

    def start(self, total: int, reused: int) -> None:
        self.started.append((total, reused))

    def result(self, result: TrialResult) -> None:
        self.results.append(result)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop(self) -> None:
        self.stops += 1


class Listener(NullTracker):
    """A Tracker that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.heard: list[TrialResult] = []

    def start(self, sweep: str, config_json: str) -> None:
        self.calls.append(f"start {sweep} {config_json}")

    def trial(self, result: TrialResult) -> None:
        self.calls.append("trial")
        self.heard.append(result)

    def finish(self) -> str | None:
        self.calls.append("finish")
        return "over there"


def answers(trial: Trial, seed: int = 0) -> Answers:
    """Right answers that depend on edits and split, whoever asks: layer ℓ gets (5 + ℓ) tenths right, roughly."""
    size = trial.evaluation.limit or SIZES[trial.evaluation.split]
    layer = -1 if trial.untouched else trial.edits[0].matrix.layer
    random = np.random.default_rng([seed, layer + 1, size])
    right = np.zeros(size, dtype=np.bool_)
    right[random.permutation(size)[: round(size * (5 + layer) / 10)]] = True
    return right


@pytest.fixture
def store(tmp_path: Path) -> ParquetStore:
    return ParquetStore(tmp_path)


@pytest.fixture
def measure(answered: Answered) -> Callable[[Trial], TrialResult]:
    return lambda trial: answered(trial, answers(trial))


@pytest.fixture
def run(
    store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> Callable[..., tuple[Outcome, Devices, Listener, Watcher]]:
    def run_jobs(
        *jobs: Job, resume: str = "auto", devices: Devices | None = None
    ) -> tuple[Outcome, Devices, Listener, Watcher]:
        devices, listener, watcher = devices or Devices(measure), Listener(), Watcher()
        sweep = Sweep(executor=devices, store=store, tracker=listener, progress=watcher, resume=resume)
        return sweep.run(jobs), devices, listener, watcher

    return run_jobs


Run = Callable[..., tuple[Outcome, Devices, Listener, Watcher]]


def rows(store: ParquetStore) -> pd.DataFrame:
    return pd.read_parquet(store.trials).set_index("trial_key")


def assert_gains(frame: pd.DataFrame, trials: Sequence[Trial], untouched: Trial) -> None:
    """Counts wins and losses example by example."""
    for trial in trials:
        pairs = list(zip(answers(trial), answers(untouched), strict=True))
        wins, losses = sum(e and not u for e, u in pairs), sum(u and not e for e, u in pairs)
        row = frame.loc[trial.key]
        assert row["gain"] == pytest.approx((wins - losses) / len(pairs), abs=1e-12)
        expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert row["gain_p_value"] == pytest.approx(expected)


# Search and confirmation


def test_a_sweep_measures_everything_on_val_and_the_winner_beside_the_untouched_model_on_test(
    run: Run, make_job: MakeJob, store: ParquetStore
) -> None:
    job = make_job(layer=(0, 1, 2))
    outcome, devices, _, _ = run(job)
    search, confirmation = devices.asked
    assert {trial.key for trial in search} == {t.key for t in [job.untouched("val"), *job.trials("val")]}
    assert {trial.evaluation.split for trial in search} == {"val"}
    winner = job.trials("test")[2]  # layer 2 gets 7 of 10 right
    assert [trial.key for trial in confirmation] == [job.untouched("test").key, winner.key]
    assert outcome.confirmed[0].winner.trial == winner
    assert set(rows(store).index) == {trial.key for trial in search + confirmation} == set(outcome.results)


def test_the_confirmed_gain_pairs_the_answers_on_test(run: Run, make_job: MakeJob) -> None:
    job = make_job()
    outcome, _, _, _ = run(job)
    difference = answers(job.trials("test")[2]).astype(float) - answers(job.untouched("test"))
    gain = outcome.confirmed[0].gain
    assert gain is not None
    assert gain.gain == pytest.approx(difference.mean())
    assert gain.stderr == pytest.approx(difference.std() / np.sqrt(40))
    assert outcome.confirmed[0].untouched.measured().accuracy == answers(job.untouched("test")).mean()


def test_ties_in_accuracy_are_decided_by_log_loss(run: Run, make_job: MakeJob, answered: Answered) -> None:
    def equal_but_for_log_loss(trial: Trial) -> TrialResult:
        log_loss = {-1: 0.9, 0: 0.5, 1: 0.25, 2: 0.5}[-1 if trial.layer is None else trial.layer]
        return answered(trial, [True] * SIZES[trial.evaluation.split], log_loss=log_loss)

    outcome, _, _, _ = run(make_job(), devices=Devices(equal_but_for_log_loss))
    assert outcome.confirmed[0].winner.trial.layer == 1


def test_the_untouched_model_wins_where_no_edit_is_better(run: Run, make_job: MakeJob, answered: Answered) -> None:
    def harm(trial: Trial) -> TrialResult:
        return answered(trial, [trial.untouched] * SIZES[trial.evaluation.split])

    job = make_job()
    outcome, devices, _, _ = run(job, devices=Devices(harm))
    assert [trial.key for trial in devices.asked[1]] == [job.untouched("test").key]
    assert outcome.confirmed[0].winner.trial.untouched


def test_nothing_is_measured_on_test_without_confirmation(run: Run, make_job: MakeJob, store: ParquetStore) -> None:
    outcome, devices, _, _ = run(make_job(confirm=False))
    assert len(devices.asked) == 1
    assert set(rows(store)["split"]) == {"val"}
    assert outcome.confirmed == {}


def test_evaluating_all_measures_every_trial_on_both_splits_at_once(
    run: Run, make_job: MakeJob, store: ParquetStore
) -> None:
    job = make_job(split="all")
    outcome, devices, _, _ = run(job)
    assert len(devices.asked) == 1
    assert rows(store).groupby("split").size().to_dict() == {"val": 4, "test": 4}
    assert outcome.confirmed[0].winner.trial == job.trials("test")[2]
    for split in ("val", "test"):
        assert_gains(rows(store), job.trials(split), job.untouched(split))


def test_two_models_each_have_their_own_winner(run: Run, make_job: MakeJob, answered: Answered) -> None:
    def best_is_2_but_0_for_the_other(trial: Trial) -> TrialResult:
        if trial.model.name == "other" and trial.layer == 0:
            return answered(trial, [True] * SIZES[trial.evaluation.split])
        return answered(trial, answers(trial))

    jobs = [make_job(), make_job(model="other")]
    outcome, devices, _, _ = run(*jobs, devices=Devices(best_is_2_but_0_for_the_other))
    assert [outcome.confirmed[place].winner.trial.layer for place in (0, 1)] == [2, 0]
    assert [outcome.confirmed[place].winner.trial.model.name for place in (0, 1)] == ["tiny", "other"]
    assert {trial.key for trial in devices.asked[1]} == {
        jobs[0].untouched("test").key,
        jobs[1].untouched("test").key,
        jobs[0].trials("test")[2].key,
        jobs[1].trials("test")[0].key,
    }


def test_the_objective_of_each_job_is_its_best_accuracy_on_val(run: Run, make_job: MakeJob) -> None:
    jobs = [make_job(layer=(0, 1)), make_job(layer=(2,)), make_job(layer=(), rho=())]
    outcome, _, _, _ = run(*jobs)
    assert [outcome.objective(job) for job in jobs] == [0.6, 0.7, 0.4]


# Gains


@pytest.mark.parametrize("order", [lambda trials: trials, lambda trials: trials[::-1]], ids=["first", "last"])
def test_gains_are_counted_whether_the_untouched_model_comes_first_or_last(
    run: Run,
    make_job: MakeJob,
    store: ParquetStore,
    measure: Callable[[Trial], TrialResult],
    order: Callable[[list[Trial]], Sequence[Trial]],
) -> None:
    job = make_job()
    _, _, listener, _ = run(job, devices=Devices(measure, order))
    assert_gains(rows(store), job.trials("val"), job.untouched("val"))
    assert_gains(rows(store), [job.trials("test")[2]], job.untouched("test"))
    assert {result.gain is None for result in listener.heard} == {False}


def test_results_wait_for_the_untouched_model_and_others_do_not(
    run: Run, make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> None:
    """The untouched model of the second data set comes last of all."""
    jobs = [make_job(confirm=False), make_job(dataset="shapes", confirm=False)]
    late = jobs[1].untouched("val")
    stored_before_late: list[str] = []

    def look_first(trial: Trial) -> TrialResult:
        if trial == late:
            stored_before_late.extend(rows(store)["dataset"])
        return measure(trial)

    def last(trials: list[Trial]) -> list[Trial]:
        return [*(trial for trial in trials if trial != late), late]

    run(*jobs, devices=Devices(look_first, last))
    assert stored_before_late == ["colours"] * 4
    assert rows(store).groupby("dataset").size().to_dict() == {"colours": 4, "shapes": 4}
    assert_gains(rows(store), jobs[1].trials("val"), late)


def test_gains_are_counted_from_a_stored_untouched_model(run: Run, make_job: MakeJob, store: ParquetStore) -> None:
    run(make_job(layer=(0,), confirm=False))
    job = make_job(layer=(0, 1, 2), confirm=False)
    outcome, devices, _, _ = run(job)
    assert [trial.layer for trial in devices.asked[0]] == [1, 2]
    assert (outcome.reused, outcome.ran) == (2, 2)
    assert_gains(rows(store), job.trials("val"), job.untouched("val"))


def test_without_an_untouched_model_gains_are_unknown(
    run: Run, make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> None:
    def fail_untouched(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.untouched else measure(trial)

    job = make_job()
    outcome, devices, _, _ = run(job, devices=Devices(fail_untouched))
    frame = rows(store)
    assert frame.loc[job.untouched("val").key]["status"] == "failed"
    for trial in job.trials("val"):
        assert frame.loc[trial.key]["status"] == "done"
        assert pd.isna(frame.loc[trial.key]["gain"])
    again, devices, _, _ = run(make_job(layer=(0, 1, 2, 3), confirm=False))
    assert [trial.layer for trial in devices.asked[0]] == [3]
    assert pd.isna(rows(store).loc[make_job(layer=(3,)).trials("val")[0].key]["gain"])


def test_gains_that_were_left_open_are_counted_when_the_untouched_model_is_there(
    run: Run, make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> None:
    """The untouched model failed; running what failed again brings the gains of the others, which are reused."""

    def fail_untouched(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.untouched else measure(trial)

    job = make_job(confirm=False)
    run(job, devices=Devices(fail_untouched))
    outcome, devices, _, _ = run(job, resume="errored")
    assert [trial.untouched for trial in devices.asked[0]] == [True]
    assert_gains(rows(store), job.trials("val"), job.untouched("val"))
    assert {outcome.results[trial.key].gain is None for trial in job.trials("val")} == {False}


def test_one_model_by_two_names_has_gains_under_both(run: Run, make_job: MakeJob, store: ParquetStore) -> None:
    """Names are no part of a key: the untouched model is measured once for both."""
    jobs = [
        make_job(layer=(0,), revision="same", confirm=False),
        make_job(layer=(1,), revision="same", confirm=False, model="alias"),
    ]
    run(*jobs)
    assert len(rows(store)) == 3
    for job in jobs:
        assert_gains(rows(store), job.trials("val"), job.untouched("val"))


# Store, tracker and progress


def test_a_result_is_stored_before_the_tracker_hears_of_it(
    make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> None:
    heard = 0

    class Checking(NullTracker):
        def trial(self, result: TrialResult) -> None:
            nonlocal heard
            heard += 1
            assert result.trial.key in rows(store).index
            assert store.correct(result.trial.key) is not None

    sweep = Sweep(executor=Devices(measure), store=store, tracker=Checking(), progress=Watcher(), resume="auto")
    sweep.run([make_job()])
    assert heard == 6


def test_the_tracker_hears_of_every_new_result_between_start_and_finish(run: Run, make_job: MakeJob) -> None:
    outcome, _, listener, _ = run(make_job(sweep="mine", config_json='{"a": 1}'))
    assert listener.calls == ['start mine {"a": 1}', *["trial"] * 6, "finish"]
    assert {result.trial.key for result in listener.heard} == set(outcome.results)
    assert all(result.predictions is not None for result in listener.heard)
    assert outcome.tracked == "over there"


@pytest.mark.parametrize("broken", ["start", "trial", "finish"])
def test_a_tracker_that_raises_is_reported_once_and_changes_nothing(
    make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult], broken: str
) -> None:
    def fail(self: Listener, *args: object) -> None:
        raise ConnectionError("the server\nis away")

    listener, watcher = type("Broken", (Listener,), {broken: fail})(), Watcher()
    guarded = GuardedTracker(listener, watcher.note)
    outcome = Sweep(executor=Devices(measure), store=store, tracker=guarded, progress=watcher, resume="auto").run(
        [make_job()]
    )
    assert len(rows(store)) == len(outcome.results) == 6
    assert outcome.confirmed[0].winner.trial.layer == 2
    [note] = watcher.notes
    assert "ConnectionError: the server is away" in note
    assert outcome.tracked is None
    after = {"start": [], "trial": ["start sweep {}"], "finish": ["start sweep {}", *["trial"] * 6]}[broken]
    assert listener.calls == after


def test_progress_is_told_of_what_is_to_run_and_of_each_end(run: Run, make_job: MakeJob) -> None:
    run(make_job(layer=(0,), confirm=False))
    _, _, _, watcher = run(make_job(layer=(0, 1, 2)))
    assert watcher.started == [(2, 2), (2, 0)]
    assert len(watcher.results) == 4
    assert watcher.stops == 1


def test_the_configuration_of_each_job_is_stored_with_its_trials(
    run: Run, make_job: MakeJob, store: ParquetStore
) -> None:
    jobs = [
        make_job(sweep="one", config_json='{"job": 1}'),
        make_job(sweep="two", config_json='{"job": 2}', dataset="shapes"),
        make_job(sweep="three", config_json='{"job": 3}', rho=(0.1, 0.5)),
    ]
    run(*jobs)
    frame = rows(store)
    asked = {trial.key: job.question for job in reversed(jobs) for split in SIZES for trial in job.trials(split)}
    edited = frame[frame["rho"].notna()]
    assert len(edited) == 9 + 2
    for key, row in edited.iterrows():
        assert (row["sweep"], row["config_json"]) == (asked[key].sweep, asked[key].config_json)


def test_the_same_edits_on_more_examples_are_stored_with_the_configuration_that_asked_for_them(
    run: Run, make_job: MakeJob, store: ParquetStore
) -> None:
    """`-m evaluation.limit=4,8`: two jobs with the same model, data set and edits."""
    few = make_job(sweep="few", config_json='{"limit": 4}', limit=4, confirm=False)
    more = make_job(sweep="more", config_json='{"limit": 8}', limit=8, confirm=False)
    run(few, more)
    frame = rows(store)
    for job in (few, more):
        for trial in (job.untouched("val"), *job.trials("val")):
            row = frame.loc[trial.key]
            assert (row["num_examples"], row["sweep"]) == (job.question.evaluation.limit, job.question.sweep)
            assert row["config_json"] == job.question.config_json


def test_answers_are_kept_on_disk_not_in_memory(run: Run, make_job: MakeJob, store: ParquetStore) -> None:
    outcome, _, _, _ = run(make_job())
    assert {result.predictions for result in outcome.results.values()} == {None}
    assert all(store.correct(key) is not None for key in outcome.results)


def test_model_loads_are_counted(run: Run, make_job: MakeJob, measure: Callable[[Trial], TrialResult]) -> None:
    loads = iter([0.5, 0.25])

    def load_twice(trial: Trial) -> TrialResult:
        return replace(measure(trial), seconds=Seconds(load=next(loads, 0.0)))

    outcome, _, _, _ = run(make_job(), devices=Devices(load_twice))
    assert outcome.model_loads == 2


# Failures


def test_a_failed_trial_is_kept_and_the_others_go_on(
    run: Run, make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> None:
    def fail_layer_2(trial: Trial) -> TrialResult:
        return TrialResult(trial=trial, status="failed", error="it broke") if trial.layer == 2 else measure(trial)

    job = make_job()
    outcome, _, listener, watcher = run(job, devices=Devices(fail_layer_2))
    assert [result.trial.layer for result in outcome.failed] == [2]
    assert outcome.confirmed[0].winner.trial.layer == 1
    row = rows(store).loc[job.trials("val")[2].key]
    assert (row["status"], row["error"]) == ("failed", "it broke")
    assert sum(not result.ok for result in listener.heard) == sum(not result.ok for result in watcher.results) == 1


def test_where_everything_fails_nothing_is_confirmed(run: Run, make_job: MakeJob) -> None:
    job = make_job()
    outcome, devices, _, _ = run(job, devices=Devices(lambda t: TrialResult(trial=t, status="failed", error="no")))
    assert len(outcome.failed) == 4
    assert len(devices.asked) == 1
    assert outcome.confirmed == {}
    assert outcome.objective(job) is None


def test_a_winner_that_fails_on_test_is_not_confirmed(
    run: Run, make_job: MakeJob, measure: Callable[[Trial], TrialResult]
) -> None:
    def fail_on_test(trial: Trial) -> TrialResult:
        failed = trial.evaluation.split == "test" and not trial.untouched
        return TrialResult(trial=trial, status="failed", error="it broke") if failed else measure(trial)

    outcome, _, _, _ = run(make_job(), devices=Devices(fail_on_test))
    assert outcome.confirmed == {}
    assert len(outcome.failed) == 1


def test_a_request_that_proves_wrong_on_the_device_ends_the_sweep_in_order(
    make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> None:
    def refuse_layer_1(trial: Trial) -> TrialResult:
        if trial.layer == 1:
            raise RequestError("the weights cannot be had")
        return measure(trial)

    devices, listener, watcher = Devices(refuse_layer_1), Listener(), Watcher()
    with pytest.raises(RequestError, match="the weights cannot be had"):
        Sweep(executor=devices, store=store, tracker=listener, progress=watcher, resume="auto").run([make_job()])
    assert len(rows(store)) == 2
    assert (devices.closed, watcher.stops, listener.calls[-1]) == (1, 1, "finish")


def test_the_executor_is_closed_at_the_end(run: Run, make_job: MakeJob) -> None:
    _, devices, _, _ = run(make_job())
    assert devices.closed == 1


# Resuming


def test_the_same_sweep_again_runs_nothing_and_says_the_same(run: Run, make_job: MakeJob) -> None:
    first, _, _, _ = run(make_job())
    again, devices, listener, watcher = run(make_job())
    assert devices.asked == []
    assert listener.calls == []
    assert watcher.started == []
    assert (again.reused, again.ran) == (6, 0)
    assert again.confirmed[0].gain == first.confirmed[0].gain
    assert {key: result.metrics for key, result in again.results.items()} == {
        key: result.metrics for key, result in first.results.items()
    }


def test_running_again_on_purpose_measures_everything_anew(run: Run, make_job: MakeJob, store: ParquetStore) -> None:
    run(make_job())
    outcome, devices, _, _ = run(make_job(), resume="never")
    assert [len(asked) for asked in devices.asked] == [4, 2]
    assert (outcome.reused, outcome.ran) == (0, 6)
    assert len(rows(store)) == 6


def test_more_rhos_run_only_those(run: Run, make_job: MakeJob) -> None:
    run(make_job(rho=(0.1,), confirm=False))
    _, devices, _, _ = run(make_job(rho=(0.1, 0.2), confirm=False))
    assert {trial.rho for trial in devices.asked[0]} == {0.2}


# Interruption

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import EvaluationSpec, Job, Question
from laser_sweep.sweep.run import Sweep
from laser_sweep.sweep.search.grid import Axes, Intervention, Proposal
from laser_sweep.sweep.tracking.tracker import NullTracker
from laser_sweep.trial import *

spec = ModelSpec(name="tiny", path="nowhere")
question = Question(
    sweep="s", model=spec, dataset=DatasetSpec(name="d", task="prompt_answer"),
    intervention=Intervention(name="laser", method="laser"), axes=Axes(tau=("fc_in",), layer=("each",), rho=(0.1,)),
    evaluation=EvaluationSpec(), seed=0, config_json="{}",
)
job = Job(
    question=question, checkpoint=Checkpoint(spec, Path("."), ModelId(name="m", repo="", revision="1", dtype="x"), 9),
    task=Task("d", tuple(Example(id=str(i), prompt="p", gold="g") for i in range(50))),
    proposals=tuple(
        Proposal((Edit(matrix=Matrix("fc_in", layer), rho=0.1),), "fc_in", layer, 0.1) for layer in range(200)
    ),
    prompt_tokens={"val": 1, "test": 1}, parameters=1,
)

class Devices:
    draining = False
    seconds = float(sys.argv[2])

    def run(self, units):
        for trial in (trial for unit in units for trial in unit.trials):
            if self.draining:
                return
            print("running", trial.layer, flush=True)
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                time.sleep(0.01)
            right = np.ones(len(job.task.split(trial.evaluation.split)), dtype=bool)
            n = len(right)
            yield TrialResult(
                trial=trial, status="done", ranks=(1,) * len(trial.edits),
                metrics=Metrics(num_examples=n, accuracy=1.0, accuracy_stderr=0.0, log_loss=0.0),
                predictions=Predictions(
                    example_id=("e",) * n, prediction=("p",) * n, gold=("g",) * n, correct=right,
                    gold_log_prob=np.zeros(n), gold_rank=np.zeros(n, dtype=np.int64), group=(None,) * n,
                    frequency=(None,) * n,
                ),
            )

    def drain(self):
        self.draining = True

    def close(self):
        print("closed", flush=True)

class Watcher:
    def start(self, total, reused): pass
    def result(self, result): print("stored", result.trial.layer, flush=True)
    def note(self, message): print(message, flush=True)
    def stop(self): pass

before = signal.getsignal(signal.SIGINT)
sweep = Sweep(
    executor=Devices(), store=ParquetStore(sys.argv[1]), tracker=NullTracker(), progress=Watcher(), resume="auto"
)
try:
    outcome = sweep.run([job])
except KeyboardInterrupt:
    print("stopped at once")
else:
    print("interrupted", outcome.interrupted, "ran", outcome.ran, "confirmed", len(outcome.confirmed))
print("handler", signal.getsignal(signal.SIGINT) is before)
"""


class Session:
    """A sweep of 201 trials in a process of its own, to send signals to."""

    def __init__(self, root: Path, seconds: float) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(root), str(seconds)], stdout=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []

    def wait_for(self, line: str) -> None:
        assert self.process.stdout is not None
        for printed in self.process.stdout:
            self.lines.append(printed.strip())
            if self.lines[-1] == line:
                return
        raise AssertionError(f"{line!r} never came: {self.lines}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> list[str]:
        rest, _ = self.process.communicate(timeout=60)
        self.lines += rest.splitlines()
        return self.lines

    def stored(self) -> set[float | None]:
        frame = pd.read_parquet(self.root / "trials")
        return {None if pd.isna(layer) else layer for layer in frame["layer"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_the_running_trial_end_and_stores_it(tmp_path: Path, number: signal.Signals) -> None:
    session = Session(tmp_path, seconds=0.3)
    session.wait_for("running 1")
    session.send(number)
    lines = session.end()
    assert session.process.returncode == 0
    assert "running 2" not in lines
    assert lines[-4:] == ["stored 1", "closed", "interrupted True ran 3 confirmed 0", "handler True"]
    assert any("once more stops now" in line for line in lines)
    assert session.stored() == {None, 0, 1}


def test_the_second_signal_stops_at_once_and_loses_only_the_running_trial(tmp_path: Path) -> None:
    session = Session(tmp_path, seconds=0.5)
    session.wait_for("running 1")
    session.send(signal.SIGINT)
    session.wait_for("stopping: the running trials end and are stored; once more stops now")
    session.send(signal.SIGINT)
    lines = session.end()
    assert lines[-3:] == ["closed", "stopped at once", "handler True"]
    assert session.stored() == {None, 0}


def test_an_interrupted_sweep_goes_on_where_it_stopped(
    run: Run, make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> None:
    def interrupt_at_layer_1(trial: Trial) -> TrialResult:
        if trial.layer == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(trial)

    first, _, listener, watcher = run(make_job(), devices=Devices(interrupt_at_layer_1))
    assert first.interrupted
    assert set(rows(store)["layer"].dropna()) == {0, 1}
    assert listener.calls[-1] == "finish"
    assert len(watcher.notes) == 1
    again, devices, _, _ = run(make_job())
    assert [trial.layer for trial in devices.asked[0]] == [2]
    assert not again.interrupted
    assert again.confirmed[0].winner.trial.layer == 2


def test_results_that_wait_for_the_untouched_model_are_stored_when_the_sweep_is_interrupted(
    run: Run, make_job: MakeJob, store: ParquetStore, measure: Callable[[Trial], TrialResult]
) -> None:
    def interrupt_at_layer_0(trial: Trial) -> TrialResult:
        if trial.layer == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(trial)

    run(make_job(), devices=Devices(interrupt_at_layer_0, order=lambda trials: trials[::-1]))
    frame = rows(store)
    assert sorted(frame["layer"]) == [0, 1, 2]
    assert frame["gain"].isna().all()
    job = make_job()
    run(job)
    assert_gains(rows(store), job.trials("val"), job.untouched("val"))


def test_handlers_of_the_program_are_put_back(run: Run, make_job: MakeJob) -> None:
    def mine(number: int, frame: object) -> None:
        pass

    previous = {number: signal.signal(number, mine) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run(make_job())
        assert [signal.getsignal(number) for number in previous] == [mine, mine]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def test_a_sweep_runs_in_a_thread_and_leaves_signals_alone(run: Run, make_job: MakeJob) -> None:
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run(make_job())[0]))
    thread.start()
    thread.join(timeout=60)
    assert outcomes[0].ran == 6
