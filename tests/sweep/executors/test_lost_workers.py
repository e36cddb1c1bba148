"""Workers that must not go on, or do not come back: a fresh one takes their place and tries their work again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.jobs import EvaluationSpec, Job
from laser_sweep.sweep.plan import work_units
from laser_sweep.sweep.protocols import Executor
from laser_sweep.trial import Trial, TrialResult

if TYPE_CHECKING:
    from laser_sweep.sweep.executors.ray import RayExecutor


def hungry(task: Task, most: int) -> Task:
    """The same examples by another name, for which there is no memory in batches of more than `most` tokens."""

    class Hungry(Task):  # of no module, so that it travels to the workers by value
        def split(self, *args: object) -> tuple[Example, ...]:
            import sys

            import torch

            frame = sys._getframe(1)
            while frame is not None and "workload" not in frame.f_locals:
                frame = frame.f_back
            if frame is not None and frame.f_locals["workload"].batch_tokens > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().split(*args)

    return Hungry("hungry", task.examples[:-1], scoring=task.scoring)


def spoiling(task: Task) -> Task:
    """The same examples by another name; where a trial of them ends, its model is not what it was."""

    class Spoiling(Task):
        def split(self, *args: object) -> tuple[Example, ...]:
            import sys

            frame = sys._getframe(1)
            while frame is not None and "loaded" not in frame.f_locals:
                frame = frame.f_back
            if frame is not None:
                editor = frame.f_locals["loaded"].editor
                editor._checksums = {matrix: 0 for matrix in editor._layout.weights}
            return super().split(*args)

    return Spoiling("spoiling", task.examples[:-1], scoring=task.scoring)


def sleeping(task: Task) -> Task:
    """The same examples by another name, which nobody gets to see."""

    class Sleeping(Task):
        def split(self, *args: object) -> tuple[()]:
            import time

            time.sleep(600)
            return ()

    return Sleeping("sleeping", task.examples[:-1], scoring=task.scoring)


def asking(job: Job, task: Task) -> Job:
    """The job on other examples, of which this process looks at none."""
    return replace(job, question=replace(job.question, evaluation=EvaluationSpec()), task=task)


@pytest.fixture
def carried_out(
    ray_executor: type[RayExecutor], workload: Callable[..., object]
) -> Callable[..., dict[str, TrialResult]]:
    def run(on: str, job: Job, trials: Sequence[Trial], **cluster: object) -> dict[str, TrialResult]:
        """The results of trials on a fresh executor."""
        spec = ClusterSpec(gpus_per_worker=0, workers=2, **cluster)
        made: Executor
        if on == "ray":
            made = ray_executor([workload(job)], spec, CacheSpec())
        else:
            from laser_sweep.sweep.executors.in_process import InProcessExecutor

            made = InProcessExecutor([workload(job)], CacheSpec(), spec.max_attempts)
        try:
            return {result.trial.key: result for result in made.run(work_units(trials), lambda work: True)}
        finally:
            made.close()

    return run


@pytest.mark.parametrize("on", ["in_process", "ray"])
def test_what_does_not_fit_goes_once_to_a_fresh_worker_with_half_the_batch(
    on: str, job: Job, carried_out: Callable[..., dict[str, TrialResult]]
) -> None:
    fits = asking(job, hungry(job.task, 4096))
    [result] = carried_out(on, fits, [fits.untouched("val")]).values()
    assert result.ok, result.error
    assert result.attempt == 2


def test_what_does_not_fit_with_half_the_batch_either_fails(
    job: Job, carried_out: Callable[..., dict[str, TrialResult]]
) -> None:
    never = asking(job, hungry(job.task, 4095))
    [result] = carried_out("in_process", never, [never.untouched("val")]).values()
    assert result.status == "failed"
    assert result.attempt == 2
    assert result.error is not None
    assert result.error.startswith("out of memory, with half the batch, too: OutOfMemoryError: CUDA out of memory.")


@pytest.mark.parametrize("on", ["in_process", "ray"])
def test_a_worker_whose_weights_do_not_come_back_is_replaced_and_its_trial_tried_again(
    on: str, job: Job, carried_out: Callable[..., dict[str, TrialResult]]
) -> None:
    broken = asking(job, spoiling(job.task))
    trials = [broken.untouched("val"), *broken.trials("val")[:1]]
    results = carried_out(on, broken, trials, max_attempts=2)
    assert results[trials[0].key].ok  # without an edit there is nothing to come back
    failed = results[trials[1].key]
    assert failed.status == "failed"
    assert failed.attempt == 2
    assert failed.error is not None
    assert failed.error.endswith("did not come back bit for bit after an edit (attempt 2 of 2)")


def test_a_trial_that_takes_too_long_is_killed_and_counted_and_the_others_go_on(
    job: Job, ray_executor: type[RayExecutor], workload: Callable[..., object]
) -> None:
    stuck = asking(job, sleeping(job.task))
    spec = ClusterSpec(gpus_per_worker=0, workers=2, max_attempts=2, trial_timeout_s=10)
    executor = ray_executor([workload(stuck), workload(job)], spec, CacheSpec())
    trials = [stuck.untouched("val"), *job.trials("val")]
    started = time.monotonic()
    results = {result.trial.key: result for result in executor.run(work_units(trials), lambda work: True)}
    executor.close()
    assert time.monotonic() - started < 120
    late = results.pop(trials[0].key)
    assert late.error == "it took longer than cluster.trial_timeout_s=10 (attempt 2 of 2)"
    assert sorted(results) == sorted(trial.key for trial in trials[1:])
    assert all(result.ok for result in results.values())


def test_it_is_said_once_when_no_worker_finds_room_and_the_sweep_begins_when_there_is_some(
    job: Job,
    ray_executor: type[RayExecutor],
    workload: Callable[..., object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import ray

    from laser_sweep.sweep.executors import ray as executors

    monkeypatch.setattr(executors, "_UP_SECONDS", 1.0)
    monkeypatch.setattr(executors, "_NODES_SECONDS", 0.2)
    others = ray.util.placement_group([{"CPU": 6}])  # all that there are
    ray.get(others.ready())
    timer = threading.Timer(4, lambda: ray.util.remove_placement_group(others))
    timer.start()
    executor = ray_executor([workload(job)], ClusterSpec(gpus_per_worker=0, workers=1), CacheSpec())
    [result] = executor.run(work_units([job.untouched("val")]), lambda work: True)
    executor.close()
    assert result.ok
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "wait for room (0 of 6 CPUs are free, cluster.cpus_per_worker=1)" in record.getMessage()
