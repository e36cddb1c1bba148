"""Ctrl-C and SIGTERM: what has ended is stored, and the next sweep goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.outcome import Outcome
from laser_sweep.trial import Trial, TrialResult

Run = Callable[..., Any]  # runs jobs and returns the parts of the sweep
MakeJob = Callable[..., Job]
Rows = Callable[[], pd.DataFrame]
AssertGains = Callable[..., None]

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
from laser_sweep.sweep.measure import Measurer
from laser_sweep.sweep.run import Sweep
from laser_sweep.sweep.search.space import Axes, Intervention, Place, Space
from laser_sweep.sweep.tracking.tracker import NullTracker
from laser_sweep.trial import *

spec = ModelSpec(name="tiny", path="nowhere")
question = Question(
    sweep="s", model=spec, dataset=DatasetSpec(name="d", format="prompt_answer"),
    intervention=Intervention(name="laser", method="laser"), axes=Axes(tau=("fc_in",), layer=("each",), rho=(0.1,)),
    evaluation=EvaluationSpec(), seed=0, config_json="{}",
)
job = Job(
    question=question, checkpoint=Checkpoint(spec, Path("."), ModelId(name="m", repo="", revision="1", dtype="x"), 9),
    task=Task("d", tuple(Example(id=str(i), prompt="p", gold="g") for i in range(50))),
    space=Space(
        intervention=question.intervention, rhos=(0.1,),
        places=tuple(Place("fc_in", layer, (Matrix("fc_in", layer),)) for layer in range(200)),
    ),
    prompt_tokens={"val": 1, "test": 1}, parameters=1, num_layers=2,
)

class Devices:
    draining = False
    seconds = float(sys.argv[2])

    def run(self, units, claim):
        for trial in (trial for unit in units for trial in unit.trials if claim(trial)):
            if self.draining:
                return
            print("running", trial.layer, flush=True)
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                time.sleep(0.01)
            right = np.ones(len(job.task.split(trial.evaluation.split)), dtype=bool)
            n = len(right)
            yield TrialResult(
                trial=trial, status="done", footprints=(Footprint(rank=1),) * len(trial.edits),
                metrics=Metrics(num_examples=n, accuracy=1.0, accuracy_stderr=0.0, log_loss=0.0),
                predictions=Predictions(
                    example_id=("e",) * n, prediction=("p",) * n, gold=("g",) * n, correct=right,
                    gold_log_prob=np.zeros(n), gold_length=np.ones(n, dtype=np.int64),
                    gold_rank=np.zeros(n, dtype=np.int64), text_rank=np.zeros(n, dtype=np.int64), f1=np.full(n, np.nan),
                    group=(None,) * n, subject=(None,) * n, relation=(None,) * n, frequency=(None,) * n,
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
sweep = Sweep(Measurer(
    executor=Devices(), store=ParquetStore(sys.argv[1]), tracker=NullTracker(), progress=Watcher(), resume="auto"
))
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
    run: Run, make_job: MakeJob, rows: Rows, measure: Callable[[Trial], TrialResult]
) -> None:
    def interrupt_at_layer_1(trial: Trial) -> TrialResult:
        if trial.layer == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(trial)

    ran = run(make_job(), measure=interrupt_at_layer_1)
    assert ran.outcome.interrupted
    assert len(ran.devices.asked) == 1  # nothing is confirmed
    assert set(rows()["layer"].dropna()) == {0, 1}
    assert ran.tracker.calls[-1] == "finish"
    assert len(ran.progress.notes) == 1
    again = run(make_job())
    assert [trial.layer for trial in again.devices.asked[0]] == [2]
    assert not again.outcome.interrupted
    assert again.outcome.confirmed[0][0].winner.trial.layer == 2


def test_results_that_wait_for_the_untouched_model_are_stored_when_the_sweep_is_interrupted(
    run: Run, make_job: MakeJob, rows: Rows, assert_gains: AssertGains, measure: Callable[[Trial], TrialResult]
) -> None:
    def interrupt_at_layer_0(trial: Trial) -> TrialResult:
        if trial.layer == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(trial)

    run(make_job(), measure=interrupt_at_layer_0, order=lambda trials: trials[::-1])
    frame = rows()
    assert sorted(frame["layer"]) == [0, 1, 2]
    assert frame["gain"].isna().all()
    job = make_job()
    run(job)
    assert_gains(job.trials("val"), job.untouched("val"))


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
    thread = threading.Thread(target=lambda: outcomes.append(run(make_job()).outcome))
    thread.start()
    thread.join(timeout=60)
    assert outcomes[0].ran == 6
