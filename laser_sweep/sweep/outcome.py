"""What came of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, field

from laser_sweep.analysis.selection import Standing, ranked
from laser_sweep.analysis.statistics import PairedGain
from laser_sweep.probe import ProbeResult
from laser_sweep.sweep.jobs import Job, Question
from laser_sweep.sweep.plan import UNTOUCHED, Comparison
from laser_sweep.sweep.protocols import Candidate, Search
from laser_sweep.trial import Trial, TrialResult


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The winner of a comparison, measured on test of one data set beside the untouched model; `gain` pairs the two."""

    winner: TrialResult
    untouched: TrialResult
    gain: PairedGain | None


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the guard said: log-losses, in nats, on its data set, of the untouched model, of the winner, and of better
    candidates that it refused."""

    untouched: TrialResult
    winner: TrialResult | None
    refused: tuple[TrialResult, ...]


@dataclass(slots=True)
class Outcome:
    """`results` holds every wanted trial that has a result, stored before or now, by key."""

    comparisons: list[Comparison]
    results: dict[str, TrialResult] = field(default_factory=dict)
    probes: dict[str, ProbeResult] = field(default_factory=dict)
    searches: dict[int, Search] = field(default_factory=dict)
    """How far the search of each comparison has come, by the place of the comparison, as in those below."""
    stopped: set[int] = field(default_factory=set)
    """Whose search had to end before it was done: what it had to know could not be computed."""
    confirmed: dict[int, tuple[Confirmed, ...]] = field(default_factory=dict)
    """One for each data set of the comparison."""
    guarded: dict[int, Guarded] = field(default_factory=dict)
    picked: dict[tuple[int, int], PairedGain] = field(default_factory=dict)
    """The winner's gain on val, by comparison and number of the data set."""
    reused: int = 0
    ran: int = 0
    model_loads: int = 0
    seconds: float = 0.0
    started_at: float = 0.0
    """UTC seconds since 1970."""
    interrupted: bool = False
    gave_up: bool = False
    """A failure has ended the sweep, as on_error=stop asks."""
    tracked: str | None = None
    """Where the tracker put the results, in words."""

    @property
    def cut_short(self) -> bool:
        """Whether it ended before all was measured, so that the same command has more to run."""
        return self.interrupted or self.gave_up

    @property
    def failed(self) -> list[TrialResult | ProbeResult]:
        probes = [result for result in self.probes.values() if not result.ok]
        return [*probes, *(result for result in self.results.values() if not result.ok)]

    def standing(self, comparison: Comparison, candidate: Candidate, limit: int | None = None) -> Standing | None:
        """What a candidate got on val of every data set, None where one of the trials has not finished."""
        keys = [job.trial(candidate, "val", limit).key for job in comparison.jobs]
        found = [self.results[key] for key in keys if key in self.results and self.results[key].ok]
        return Standing(tuple(found)) if len(found) == len(keys) else None

    def ranked(self, comparison: Comparison) -> list[Standing]:
        """The candidates that were measured in full on val, best first, the untouched model among them."""
        candidates = (UNTOUCHED, *comparison.candidates.values())
        standings = [self.standing(comparison, candidate) for candidate in candidates]
        return ranked((one for one in standings if one is not None), comparison.question.objective)

    def question(self, trial: Trial) -> Question:
        """The question that asked for a trial."""
        for comparison in self.comparisons:
            for job in (*comparison.jobs, comparison.guard):
                if job is not None and _asks(job, trial):
                    return comparison.owners.get((trial.evaluation.revision, trial.edits), job.question)
        raise KeyError(trial.key)

    def objective(self, job: Job) -> float | None:
        """What decides, of the best candidate of one job: its score on val, or its loss. None where none of them
        has finished."""
        comparison = next(one for one in self.comparisons if any(member is job for member in one.members))
        own = {candidate.edits for candidate in job.space.grid()}
        if len(comparison.members) == 1:
            own |= comparison.candidates.keys()  # a search may put together others
        best = [one for one in self.ranked(comparison) if one.trial.edits in (own or {()})]
        if not best:
            return None
        return best[0].figure(job.question.objective)


def _asks(job: Job, trial: Trial) -> bool:
    """Whether a trial is one of a job's, on whatever part of its examples."""
    asked = trial.evaluation
    return job.checkpoint.identity == trial.model and job.evaluation(asked.split, asked.limit) == asked
