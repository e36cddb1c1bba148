"""Jobs -> comparisons -> what is left to run, in work units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from laser_sweep.sweep.jobs import Job, Question
from laser_sweep.sweep.protocols import Store, WorkUnit
from laser_sweep.trial import Edit, Split, Trial, TrialResult

Resume: TypeAlias = Literal["auto", "never", "errored"]


@dataclass(slots=True)
class Comparison:
    """Trials that compete: the same model and examples, whatever job asked for them, and the untouched model."""

    job: Job
    trials: dict[str, Trial] = field(default_factory=dict)
    """Edited trials on `val` by key, in the order in which they were asked for."""
    questions: dict[tuple[Edit, ...], Question] = field(default_factory=dict)
    """Who asked for which edits first."""

    def untouched(self, split: Split) -> Trial:
        return self.job.untouched(split)

    def on(self, trial: Trial, split: Split) -> Trial:
        """The same edits measured on another split."""
        return replace(trial, evaluation=self.job.evaluation(split))

    def wanted(self, split: Split) -> list[Trial]:
        """The untouched model and every edit, on a split."""
        return [self.untouched(split), *(self.on(trial, split) for trial in self.trials.values())]


def compare(jobs: Iterable[Job]) -> list[Comparison]:
    """Groups the trials of all jobs by model and examples; a trial that several jobs ask for stands once."""
    comparisons: dict[tuple[object, ...], Comparison] = {}
    for job in jobs:
        key = (job.checkpoint.identity, job.evaluation("val"), job.evaluation("test"))
        comparison = comparisons.setdefault(key, Comparison(job))
        for trial in job.trials("val"):
            comparison.trials.setdefault(trial.key, trial)
            comparison.questions.setdefault(trial.edits, job.question)
    return list(comparisons.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """What is stored already and what is left to run."""

    reused: dict[str, TrialResult]
    pending: tuple[Trial, ...]


def subtract_stored(trials: Sequence[Trial], store: Store, resume: Resume) -> Plan:
    """Splits trials into stored ones and those to run: `auto` runs what has no result, `errored` also what failed,
    `never` everything."""
    distinct = {trial.key: trial for trial in trials}
    found = {} if resume == "never" else store.find(distinct.values())
    reused = {key: result for key, result in found.items() if result.ok or resume == "auto"}
    return Plan(reused, tuple(trial for key, trial in distinct.items() if key not in reused))


def search_trials(comparisons: Iterable[Comparison]) -> list[Trial]:
    """What the search of every comparison measures: the untouched model and every edit, on each search split."""
    return [
        trial
        for comparison in comparisons
        for split in comparison.job.question.evaluation.search_splits
        for trial in comparison.wanted(split)
    ]


def plan_sweep(jobs: Iterable[Job], store: Store, resume: Resume) -> Plan:
    """What the search would reuse and run."""
    return subtract_stored(search_trials(compare(jobs)), store, resume)


def work_units(trials: Iterable[Trial], jobs: Iterable[Job] = ()) -> list[WorkUnit]:
    """Groups trials by model, data set and lowest edited layer, and orders a group by matrix.

    The untouched model comes first: all gains are counted from it. Neighbouring layers stay neighbours. Where `jobs`
    say how large model and examples are, a trial costs its tokens times the blocks from its lowest edit up, and those
    below are the entry to its unit.
    """
    by_content = {(job.checkpoint.identity, job.task.revision): job for job in jobs}
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.model, trial.evaluation, _lowest_layer(trial)), []).append(trial)
    units = []
    for group in sorted(groups.values(), key=lambda group: _place(group[0])):
        first = group[0]
        job = by_content.get((first.model, first.evaluation.revision))
        unit = WorkUnit(tuple(sorted(group, key=lambda trial: trial.edits)))
        if job is not None:
            below, tokens = max(0, _lowest_layer(first)), job.prompt_tokens[first.evaluation.split]
            unit = replace(unit, trial_cost=tokens * (job.num_layers - below), entry_cost=tokens * below)
        units.append(unit)
    return units


def _lowest_layer(trial: Trial) -> int:
    """-1 for the untouched model."""
    return min((edit.matrix.layer for edit in trial.edits), default=-1)


def _place(trial: Trial) -> tuple[bool, str, str, str, int]:
    """Where a trial's group stands in the sweep."""
    evaluation = trial.evaluation
    return not trial.untouched, str(trial.model), evaluation.dataset, evaluation.split, _lowest_layer(trial)
