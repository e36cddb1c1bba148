"""Sweeps carried out in this process with an empty store and an empty cache, timed trial by trial."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from laser_sweep.analysis.selection import Standing
from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.probe import Probe
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.executors.in_process import InProcessExecutor
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.measure import Measurer
from laser_sweep.sweep.outcome import Outcome
from laser_sweep.sweep.run import Sweep
from laser_sweep.sweep.search.space import Space
from laser_sweep.sweep.tracking.tracker import NullTracker
from laser_sweep.trial import Edit, TrialResult


@dataclass
class Clock:
    """A Progress that says how long each trial took until it was stored, by key, in the order in which they ran."""

    took: dict[str, float] = field(default_factory=dict)
    _last: float = 0.0

    def start(self, total: int, reused: int) -> None:
        self._last = time.perf_counter()

    def result(self, result: TrialResult) -> None:
        now = time.perf_counter()
        self.took[result.trial.key] = now - self._last
        self._last = now

    def note(self, message: str) -> None:
        pass

    def stop(self) -> None:
        pass


@dataclass(frozen=True)
class Carried:
    """A sweep that was carried out under `root`; `seconds` are those of all but the load of the model."""

    job: Job
    root: Path
    outcome: Outcome
    took: Mapping[str, float]
    seconds_load: float

    @property
    def seconds(self) -> float:
        return self.outcome.seconds - self.seconds_load

    @property
    def winner(self) -> Standing:
        return self.outcome.ranked(self.outcome.comparisons[0])[0]

    @property
    def ran(self) -> list[TrialResult]:
        """What was not stored before."""
        return [self.outcome.results[key] for key in self.took]

    @property
    def seconds_probe(self) -> float:
        """Of a search that looks at gradients first, which is when the model is loaded."""
        return sum(one.finished_at - one.started_at for one in self.outcome.probes.values()) - self.seconds_load


def carry_out(job: Job, root: Path) -> Carried:
    """Runs one job with its store and its cache under `root`. Raises AssertionError where it does not end well."""
    evaluation, clock = job.question.evaluation, Clock()
    workload = Workload(
        checkpoint=job.checkpoint,
        task=job.task,
        batch_tokens=evaluation.batch_tokens,
        activation_budget_gb=evaluation.activation_budget_gb,
        host_budget_gb=evaluation.host_budget_gb,
    )
    sweep = Sweep(
        Measurer(
            executor=InProcessExecutor([workload], CacheSpec(dir=str(root / "factors"))),
            store=ParquetStore(root / "store"),
            tracker=NullTracker(),
            progress=clock,
            resume="auto",
        )
    )
    outcome = sweep.run([job])
    assert not outcome.interrupted, "a signal ended the sweep"
    assert not outcome.failed, outcome.failed[0].error
    loads = sum(outcome.results[key].seconds.load for key in clock.took)
    return Carried(job, root, outcome, clock.took, loads)


def confirmation_seconds(carried: Carried) -> float:
    """What it takes to measure the winner and the untouched model on test, once the search has come to its end."""
    question = carried.job.question
    confirming = replace(question, evaluation=replace(question.evaluation, confirm=True))
    return carry_out(replace(carried.job, question=confirming), carried.root).seconds


def one_each(job: Job, rho: float, **options: int) -> Job:
    """The job with one candidate at each place: this rho and, of options that sweep, these values."""
    return replace(job, space=one_rho(job.space, rho, **options))


def one_rho(space: Space, rho: float, **options: int) -> Space:
    chosen = replace(space.intervention, options={**space.intervention.options, **options})
    return replace(space, rhos=(rho,), intervention=chosen)


def in_full(sample: Carried, space: Space) -> float:
    """Seconds of a search in this space of which `one_each` was carried out."""
    edited = [result for result in sample.ran if not result.trial.untouched]
    timed = [Timed(result.trial.layer, sample.took[result.trial.key], result.seconds.factor) for result in edited]
    return sample.seconds + further_seconds(timed, len(space.rhos), len(space.intervention.settings()))


@dataclass(frozen=True)
class Timed:
    """What a trial took, and what of that its decomposition."""

    layer: int | None
    seconds: float
    factor: float


def further_seconds(trials: Iterable[Timed], rhos: int, settings: int) -> float:
    """What is missing where each place had one of so many rho and settings of the options; trials as they ran.

    A further trial takes what the last one of its layer took, without the decomposition: that one may find the states
    that enter the layer. Where it was the only one there it does not, and counts too much. Each further setting takes
    a decomposition more.
    """
    by_layer: defaultdict[int | None, list[Timed]] = defaultdict(list)
    for trial in trials:
        by_layer[trial.layer].append(trial)
    seconds = 0.0
    for places in by_layer.values():
        seconds += len(places) * (rhos * settings - 1) * (places[-1].seconds - places[-1].factor)
        seconds += (settings - 1) * sum(place.factor for place in places)
    return seconds


def factoring_seconds(job: Job, root: Path) -> float:
    """Seconds in which all matrices of a job are decomposed and put into an empty cache."""
    workload = Workload(checkpoint=job.checkpoint, task=job.task)
    worker = Worker([workload], cache=CacheSpec(dir=str(root)))
    list(worker.run([job.untouched("val")]))  # loads the model
    matrices = tuple(matrix for place in job.space.places for matrix in place.matrices)
    result = worker.carry_out(Probe(model=job.checkpoint.identity, matrices=matrices))
    assert result.ok, result.error
    return result.finished_at - result.started_at


class Answers:
    """Which examples each edit gets right, which must be the same whoever says it. `twice` counts what was compared."""

    def __init__(self) -> None:
        self._correct: dict[tuple[tuple[Edit, ...], str], bool] = {}
        self.twice = 0

    def add(self, edits: tuple[Edit, ...], correct: Mapping[str, bool]) -> None:
        """Raises AssertionError where an example was answered otherwise before."""
        for example, one in correct.items():
            key = edits, example
            self.twice += key in self._correct
            assert self._correct.setdefault(key, one) == one, f"{key} is {one} here and was not before"

    def add_all(self, carried: Carried) -> None:
        """Adds those of all trials of a sweep."""
        store = ParquetStore(carried.root / "store")
        for result in carried.ran:
            scores = store.scores(result.trial.key)
            assert scores is not None
            self.add(result.trial.edits, dict(zip(scores.example_ids, scores.scores.tolist(), strict=True)))

    def accuracy(self, edits: tuple[Edit, ...], examples: Iterable[str]) -> float:
        return statistics.fmean(self._correct[edits, example] for example in examples)
