"""What a sweep needs from the parts that carry it out; `laser_sweep.cli` chooses them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from laser_sweep.probe import Probe, ProbeResult, Spectrum
from laser_sweep.trial import Edit, Evaluation, ExampleScores, Matrix, ModelId, Trial, TrialResult

Work: TypeAlias = Trial | Probe
WorkResult: TypeAlias = TrialResult | ProbeResult
Claim: TypeAlias = Callable[[Work], bool]
"""Asked before a piece of work is begun, and again when it is begun once more: whether it is to be done here."""


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """Trials that a worker does best one after the other: one model, one data set, one layer. Or one probe.

    `trial_cost` is what each of them takes, `entry_cost` what a worker pays first that holds no states for the layer,
    both in tokens times blocks.
    """

    trials: tuple[Work, ...]
    trial_cost: float = 1.0
    entry_cost: float = 0.0

    @property
    def home(self) -> tuple[ModelId, Evaluation | None]:
        """What a worker must hold to be at home: the model, and the states of the examples."""
        return self.trials[0].model, self.trials[0].evaluation

    @property
    def urgent(self) -> bool:
        """Whether others wait for it: probes, and untouched models, from which all gains are counted."""
        first = self.trials[0]
        return isinstance(first, Probe) or first.untouched

    @property
    def cost(self) -> float:
        """What all trials take, once a worker is there."""
        return len(self.trials) * self.trial_cost

    def step(self, below: WorkUnit | None) -> float:
        """What it costs a worker to come here from another unit: states advance block by block, but only upwards."""
        if below is None or below.home != self.home or below.entry_cost > self.entry_cost:
            return self.entry_cost
        return self.entry_cost - below.entry_cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Edits that are tried together, and how the request named them.

    `layer` is None for all layers together; all three are None where a search put together edits of several places.
    """

    edits: tuple[Edit, ...]
    intervention: str
    tau: str | None = None
    layer: int | None = None
    rho: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a candidate is worth on the examples on which it was measured.

    `value` is what decides, then what decides between equals, each the larger the better. `loss` is the mean over the
    data sets, of log-loss in nats or of the action error. `examples` are those of all data sets in order, in the order
    in which they were drawn, where the search asked for them. Where the sweep has a guard, a candidate that it refuses
    is not `allowed` to win.
    """

    value: tuple[float, float]
    loss: float
    examples: ExampleScores | None = None
    allowed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTrials:
    """A search wants candidates measured on the first `limit` examples of val in shuffled order, or on all it may use.

    With `by_example` it also wants to know how they did on each example, with `guarded` at once whether the guard
    allows them.
    """

    candidates: tuple[Candidate, ...]
    limit: int | None = None
    by_example: bool = False
    guarded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSpectra:
    """A search wants the singular values of matrices and, with `samples`, the slopes of the loss on so many examples.

    `samples` is a number of examples of val, "all" of them, or None.
    """

    matrices: tuple[Matrix, ...]
    samples: int | Literal["all"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The answer to what a search asked: a score for each candidate and for no edits at all, or spectra.

    What failed is left out. `spectra` has a mapping for each data set.
    """

    scores: Mapping[tuple[Edit, ...], Score] = field(default_factory=dict)
    spectra: tuple[Mapping[Matrix, Spectrum], ...] = ()


class Search(Protocol):
    """Decides which candidates are measured on how many examples.

    It is a value: what it is told makes another one, so that a search that was cut off comes to the same point again
    from what is stored.
    """

    def ask(self) -> AskTrials | AskSpectra | None:
        """What it wants to know next, None when it is done."""

    def tell(self, found: Findings) -> Search:
        """The search that has been answered."""

    def notes(self) -> Sequence[str]:
        """What a person should know of how the winner was found, a line each."""


class Executor(Protocol):
    """Runs trials on devices."""

    def run(self, units: Sequence[WorkUnit], claim: Claim) -> Iterator[WorkResult]:
        """Yields the result of all work that may be claimed, as it is done. May be called again; workers stay up in
        between."""

    def drain(self) -> None:
        """Starts no further trial: `run` ends when those under way have ended. Called from a signal handler."""

    def close(self) -> None:
        """Lets the workers go."""


class Store(Protocol):
    """Keeps results."""

    def find(self, trials: Iterable[Trial]) -> dict[str, TrialResult]:
        """The stored results of these trials by key."""

    def scores(self, key: str) -> ExampleScores | None:
        """How a stored trial did on each example."""

    def claim(self, trial: Trial, *, again: bool) -> bool:
        """Whether a trial is this sweep's to run: no other one runs it or, unless it is to run `again`, has stored it
        in the meantime."""

    def leave(self) -> None:
        """Leaves what was claimed and not stored to other sweeps."""

    def write(self, result: TrialResult, sweep: str, config_json: str) -> None:
        """Stores a result durably. Raises OSError where it cannot be written."""

    def find_probe(self, probe: Probe) -> ProbeResult | None:
        """The stored result of a probe."""

    def write_probe(self, result: ProbeResult) -> None:
        """Stores the result of a probe durably."""


class Tracker(Protocol):
    """Is told of results after they are stored; what it raises is reported once and changes nothing."""

    def start(self, sweep: str, config_json: str) -> None:
        """Called once, before the first result."""

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        """Called for every new result, with what the store was told of it; its sweep and configuration may be others
        than those of the first."""

    def finish(self) -> str | None:
        """Called once, after the last result; says where a person finds them, if there is such a place."""

    def abandon(self) -> None:
        """Called from another thread when a call has not come back: makes sure that the program can end without it."""


class Progress(Protocol):
    """Shows a person how far the sweep is."""

    def start(self, total: int, reused: int) -> None:
        """`total` trials are to be run, `reused` were found in the store."""

    def result(self, result: TrialResult) -> None:
        """A trial has ended."""

    def note(self, message: str) -> None:
        """Something a person should know at once."""

    def stop(self) -> None:
        """Nothing more will come."""
