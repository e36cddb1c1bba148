"""One suite for every executor: the same trials, the same numbers, whoever runs them. Then what Ray alone must bear."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.tasks.example import Task
from laser_sweep.errors import RequestError
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.jobs import EvaluationSpec, Job
from laser_sweep.sweep.plan import compare, first_trials, work_units
from laser_sweep.sweep.protocols import Claim, Executor, WorkUnit
from laser_sweep.trial import Edit, Matrix, Metrics, Trial, TrialResult

if TYPE_CHECKING:
    from laser_sweep.sweep.executors.ray import RayExecutor

HALF_A_GPU = ClusterSpec(gpus_per_worker=0.5, max_attempts=2)


def deadly(task: Task) -> Task:
    """The same data set by another name, which ends any process that looks at its examples."""

    class Deadly(Task):  # of no module, so that it travels to the workers by value
        def split(self, *args: object) -> tuple[()]:
            os._exit(1)

    return Deadly("deadly", task.examples[:-1])


@dataclass
class Recorded:
    """An executor, and all results that it has ever given."""

    executor: Executor
    history: list[TrialResult] = field(default_factory=list)

    def run(self, units: Sequence[WorkUnit], claim: Claim = lambda work: True) -> Iterator[TrialResult]:
        for result in self.executor.run(units, claim):
            self.history.append(result)
            yield result


@pytest.fixture(scope="module")
def poisoned(job: Job) -> Job:
    """Asks for the untouched model on the whole of a data set that kills."""
    question = replace(job.question, evaluation=EvaluationSpec())  # no limit: this process must not look at examples
    return replace(job, question=question, task=deadly(job.task), space=replace(job.space, places=()))


@pytest.fixture(scope="module")
def executor(
    request: pytest.FixtureRequest, job: Job, poisoned: Job, workload: Callable[..., object]
) -> Iterator[Recorded]:
    workloads = [workload(job), workload(poisoned)]
    made: Executor
    if request.param == "ray":
        made = request.getfixturevalue("ray_executor")(workloads, HALF_A_GPU, CacheSpec())
    else:
        from laser_sweep.sweep.executors.in_process import InProcessExecutor

        made = InProcessExecutor(workloads, CacheSpec(factors_gb=0))
    yield Recorded(made)
    made.close()


@pytest.fixture(scope="module")
def by_hand(job: Job, workload: Callable[..., object]) -> dict[str, Metrics]:
    """What a lone worker measures."""
    from laser_sweep.engine.worker import Worker

    trials = first_trials(compare([job]))
    return {result.trial.key: result.measured() for result in Worker([workload(job)]).run(trials)}


both = pytest.mark.parametrize("executor", ["in_process", "ray"], indirect=True, scope="module")
on_ray = pytest.mark.parametrize("executor", ["ray"], indirect=True, scope="module")


def beyond_the_model(job: Job) -> Trial:
    """A trial that no worker can compute: the model has two layers."""
    return replace(job.trials("val")[0], edits=(Edit(matrix=Matrix("fc_in", 99), rho=0.1),), layer=99)


@both
def test_every_trial_has_one_result_with_the_numbers_of_a_lone_worker(
    executor: Recorded, job: Job, by_hand: dict[str, Metrics]
) -> None:
    results = list(executor.run(work_units(first_trials(compare([job])))))
    assert sorted(result.trial.key for result in results) == sorted(by_hand)
    for result in results:
        expected = by_hand[result.trial.key]
        assert result.status == "done", result.error
        assert result.measured().accuracy == expected.accuracy
        assert result.measured().log_loss == pytest.approx(expected.log_loss, rel=1e-5)
        assert result.predictions is not None
        assert result.predictions.correct.mean() == pytest.approx(expected.accuracy)
        assert result.attempt == 1
        assert result.worker


@both
def test_every_run_uses_the_same_workers_and_each_loads_the_model_once(executor: Recorded, job: Job) -> None:
    results = list(executor.run(work_units([job.untouched("test"), *job.trials("test")])))
    assert len(results) == 9
    assert {result.trial.evaluation.split for result in results} == {"test"}
    workers = {result.worker for result in executor.history}
    assert len(workers) <= 2
    loads = [result.worker for result in executor.history if result.seconds.load > 0]
    assert sorted(loads) == sorted(workers)


@both
def test_a_trial_that_cannot_be_computed_fails_alone(executor: Recorded, job: Job) -> None:
    trials = [beyond_the_model(job), *job.trials("val")]
    results = {result.trial.key: result for result in executor.run(work_units(trials))}
    assert len(results) == 5 + len(job.trials("val")) - 4
    broken = results.pop(trials[0].key)
    assert broken.status == "failed"
    assert broken.error
    assert {result.status for result in results.values()} == {"done"}


@both
def test_what_may_not_be_claimed_is_left_out(executor: Recorded, job: Job) -> None:
    trials = first_trials(compare([job]))
    mine = {trial.key for trial in trials[::2]}
    assert {result.trial.key for result in executor.run(work_units(trials), lambda work: work.key in mine)} == mine


@both
def test_nothing_asked_is_nothing_done(executor: Recorded) -> None:
    assert list(executor.run([])) == []


@on_ray
def test_half_a_gpu_for_each_worker_makes_two_workers_of_one_gpu(executor: Recorded, job: Job) -> None:
    """One may be up so much earlier that it does all the work of a run."""
    for _ in range(20):
        list(executor.run(work_units(job.trials("val"))))
        workers = {result.worker for result in executor.history}
        if len(workers) > 1:
            break
    assert len(workers) == 2


@on_ray
def test_a_trial_whose_worker_is_killed_runs_again_on_another(
    executor: Recorded, job: Job, by_hand: dict[str, Metrics]
) -> None:
    killed: int | None = None
    results: dict[str, TrialResult] = {}
    for result in executor.run(work_units(first_trials(compare([job])))):
        assert result.trial.key not in results
        results[result.trial.key] = result
        if killed is None:
            killed = int(result.worker.rpartition("-")[2])
            os.kill(killed, signal.SIGKILL)
    assert {key: result.measured().accuracy for key, result in results.items()} == {
        key: metrics.accuracy for key, metrics in by_hand.items()
    }
    [again] = [result for result in results.values() if result.attempt == 2]
    assert not again.worker.endswith(f"-{killed}")


@on_ray
def test_a_trial_that_kills_every_worker_fails_at_last_and_the_others_go_on(
    executor: Recorded, job: Job, poisoned: Job
) -> None:
    deadly = poisoned.untouched("val")
    results = {result.trial.key: result for result in executor.run(work_units([deadly, *job.trials("val")]))}
    failed = results.pop(deadly.key)
    assert failed.status == "failed"
    assert failed.attempt == 2
    assert failed.error is not None
    assert failed.error.startswith("its worker died: ")
    assert failed.error.endswith(" (attempt 2 of 2)")
    assert sorted(results) == sorted(trial.key for trial in job.trials("val"))
    assert {result.status for result in results.values()} == {"done"}


@both
def test_draining_ends_a_run_with_the_trials_under_way(executor: Recorded, job: Job) -> None:
    """The last test of an executor: it starts nothing any more."""
    run = executor.run(work_units(first_trials(compare([job]))))
    first = next(run)
    executor.executor.drain()
    rest = list(run)
    assert len(rest) <= 1  # of two workers at most, the other one
    assert first.trial.key not in {result.trial.key for result in rest}
    assert {result.status for result in rest} <= {"done"}


# What fits on a cluster


@pytest.fixture
def refusal(ray_executor: type[RayExecutor], job: Job, workload: Callable[..., object]) -> Callable[..., str]:
    def ask(spec: ClusterSpec) -> str:
        executor = ray_executor([workload(job)], spec, CacheSpec())
        with pytest.raises(RequestError) as refused:
            list(executor.run(work_units([job.untouched("val")]), lambda work: True))
        executor.close()
        message = str(refused.value)
        assert "\n" not in message
        return message

    return ask


@pytest.mark.parametrize("spec", [ClusterSpec(gpus_per_worker=2), ClusterSpec(cpus_per_worker=7)])
def test_a_worker_that_fits_no_node_is_refused(refusal: Callable[..., str], spec: ClusterSpec) -> None:
    message = refusal(spec)
    assert f"cluster.cpus_per_worker={spec.cpus_per_worker}" in message
    assert "fits no node" in message
    assert "6 CPUs and 1 GPUs in all" in message


@pytest.mark.parametrize(
    ("gpus", "cpus", "room"), [(0.5, 1, 2), (1, 1, 1), (0.4, 1, 2), (0.6, 1, 1), (0.2, 1, 5), (0, 1, 6), (0, 4, 1)]
)
def test_more_workers_than_fit_are_refused_with_how_many_do(
    refusal: Callable[..., str], gpus: float, cpus: int, room: int
) -> None:
    message = refusal(ClusterSpec(workers=room + 1, gpus_per_worker=gpus, cpus_per_worker=cpus))
    assert f"cluster.workers={room + 1}" in message
    assert f"room for {room}" in message
