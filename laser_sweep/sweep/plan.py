"""Jobs -> comparisons -> what is left to run, in work units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from laser_sweep.probe import Probe
from laser_sweep.sweep.jobs import Job, Question
from laser_sweep.sweep.protocols import AskTrials, Candidate, Search, Store, Work, WorkUnit
from laser_sweep.sweep.search.registry import make_search
from laser_sweep.sweep.search.space import Space, distinct
from laser_sweep.sweep.search.spec import GradientSpec
from laser_sweep.trial import Edit, Evaluation, Split, Trial, TrialResult

Resume: TypeAlias = Literal["auto", "never", "errored"]


UNTOUCHED = Candidate(edits=(), intervention="none")


@dataclass(slots=True)
class Comparison:
    """Candidates for one decision: one model, and the examples of one data set, or of several whose mean decides.

    There is a job for each data set; `members` are all jobs that take part. `spaces` are what all who ask want to
    choose from, `owners` says who asked first for which edits on which data set (its revision), and `candidates` are
    those that were asked for in full, in that order, by their edits; `looked_at` are also those that were dropped on
    fewer examples.
    """

    jobs: tuple[Job, ...]
    members: tuple[Job, ...]
    spaces: tuple[Space, ...]
    owners: dict[tuple[str, tuple[Edit, ...]], Question]
    candidates: dict[tuple[Edit, ...], Candidate] = field(default_factory=dict)
    looked_at: set[tuple[Edit, ...]] = field(default_factory=set)

    @property
    def question(self) -> Question:
        """The first question, which has what all of them agree in: search, objective and guard."""
        return self.jobs[0].question

    @property
    def guard(self) -> Job | None:
        return self.jobs[0].guard

    @property
    def num_examples(self) -> int:
        """How many examples of val the search may use, of the smallest data set."""
        return min(job.num_examples("val") for job in self.jobs)

    def search(self) -> Search:
        """The search from its beginning. Raises RequestError where it cannot be made for these data sets."""
        question = self.question
        if isinstance(question.search, GradientSpec):
            for job in self.jobs:
                job.sample(question.search.gradient_samples)
        return make_search(question.search, self.spaces, question.objective, self.num_examples, question.seed)

    def limit(self, ask: AskTrials) -> int | None:
        """On how many examples an ask is answered, None for all that the search may use."""
        return None if ask.limit is None or ask.limit >= self.num_examples else ask.limit

    def trials(self, ask: AskTrials) -> list[Trial]:
        """What answers a search: the untouched model and each candidate on each data set, and for the guard."""
        candidates = [UNTOUCHED, *ask.candidates]
        limit = self.limit(ask)
        self.looked_at.update(candidate.edits for candidate in ask.candidates)
        if limit is None:
            self.candidates.update((candidate.edits, candidate) for candidate in ask.candidates)
        splits: tuple[Split, ...] = self.question.evaluation.search_splits if limit is None else ("val",)
        guards = [self.guard] if ask.guarded and self.guard is not None else []
        return [
            *(job.trial(candidate, split, limit) for job in self.jobs for split in splits for candidate in candidates),
            *(guard.trial(candidate, "val") for guard in guards for candidate in candidates),
        ]


def compare(jobs: Iterable[Job]) -> list[Comparison]:
    """Groups jobs by what they decide; jobs on the same model and examples choose from the union of their spaces."""
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in jobs:
        question = job.question
        key: tuple[object, ...] = (job.checkpoint.identity, question.search, question.objective)
        if job.guard is not None and question.guard is not None:
            key += job.guard.evaluation("val"), question.guard.bound
        if not question.objective.startswith("mean"):
            key += job.evaluation("val"), job.evaluation("test")
        groups.setdefault(key, []).append(job)
    return [_comparison(group) for group in groups.values()]


def _comparison(jobs: Sequence[Job]) -> Comparison:
    owners: dict[tuple[str, tuple[Edit, ...]], Question] = {}
    by_examples: dict[tuple[Evaluation, Evaluation], Job] = {}
    for job in jobs:
        by_examples.setdefault((job.evaluation("val"), job.evaluation("test")), job)
        for candidate in job.space.grid():
            owners.setdefault((job.task.revision, candidate.edits), job.question)
    return Comparison(tuple(by_examples.values()), tuple(jobs), distinct(job.space for job in jobs), owners)


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


def first_trials(comparisons: Iterable[Comparison]) -> list[Trial]:
    """What the searches ask for before they know anything; of a search that looks at spectra first, nothing."""
    asked = [(comparison, comparison.search().ask()) for comparison in comparisons]
    return [trial for comparison, ask in asked if isinstance(ask, AskTrials) for trial in comparison.trials(ask)]


def plan_sweep(jobs: Iterable[Job], store: Store, resume: Resume) -> Plan:
    """What the sweep would reuse and run first."""
    return subtract_stored(first_trials(compare(jobs)), store, resume)


def work_units(work: Iterable[Work], jobs: Iterable[Job] = ()) -> list[WorkUnit]:
    """Groups trials by model, data set and lowest edited layer, and orders a group by matrix; a probe is a unit.

    The untouched model comes first: all gains are counted from it. Neighbouring layers stay neighbours. Where `jobs`
    say how large model and examples are, a trial costs its tokens times the blocks from its lowest edit up, and those
    below are the entry to its unit.
    """
    by_content = {(job.checkpoint.identity, job.task.revision): job for job in jobs}
    groups: dict[tuple[object, ...], list[Trial]] = {}
    units = []
    for one in work:
        if isinstance(one, Probe):
            units.append(WorkUnit((one,)))
        else:
            groups.setdefault((one.model, one.evaluation, _lowest_layer(one)), []).append(one)
    for group in sorted(groups.values(), key=lambda group: _place(group[0])):
        first = group[0]
        job = by_content.get((first.model, first.evaluation.revision))
        group.sort(key=lambda trial: [(edit.matrix, edit.method, edit.options, edit.rho) for edit in trial.edits])
        unit = WorkUnit(tuple(group))
        if job is not None:
            below, tokens = max(0, _lowest_layer(first)), job.tokens(first.evaluation)
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
