"""The vocabulary of a sweep: what is edited, what is measured, and the key under which the measurement is kept."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from laser_sweep.measures import ANSWERS, EPISODES, Measures

TAUS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_up", "fc_out")
"""Names of the matrix types τ, in the order in which a block applies them."""

GROUPS = {
    "attn": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "mlp": ("fc_in", "fc_up", "fc_out"),
    "all": TAUS,
}
"""Names that stand for several matrices edited together in one trial."""

METRIC_VERSION = 3
"""Part of every trial key: raise it when a change to scoring changes a number."""

Split: TypeAlias = Literal["val", "test"]
Family: TypeAlias = Literal["causal", "masked", "decision_transformer"]
Scores: TypeAlias = npt.NDArray[np.bool_] | npt.NDArray[np.float64]
"""Whether each answer is right, or the return of each episode; (examples,)."""
Option: TypeAlias = bool | int | float | str


def rank_of(rho: float, rows: int, columns: int) -> int:
    """The rank that a fraction `rho` of the full rank keeps: int(min(m, n) * rho), truncating.

    This is the published code's rule. It agrees with that code's float expression int(min(m, n) * (10 - rate) * 0.1) at
    every published rate and size; elsewhere the two may differ by one (rate 9.9 at 1,000: 9 there, 10 here).
    """
    return int(min(rows, columns) * rho)


def rho_of(rank: int, rows: int, columns: int) -> float:
    """The fraction of the full rank that keeps `rank`, so that rank_of(rho_of(k, m, n), m, n) is k."""
    full = min(rows, columns)
    rho = rank / full
    return rho if int(full * rho) == rank else math.nextafter(rho, 1.0)


def content_key(identity: Mapping[str, object]) -> str:
    """16 hexadecimal characters of blake2b over canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, order=True)
class Matrix:
    """One weight matrix of a model: type τ and layer ℓ, counted from 0."""

    tau: str
    layer: int

    def __str__(self) -> str:
        return f"{self.tau}[{self.layer}]"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Edit:
    """One matrix and what is done to it; `rho` is the fraction of its rank (pruned: of its entries) that is kept.

    `removed` keeps the rest of the rank: its rho is that of the `laser` edit that takes it away.
    """

    matrix: Matrix
    rho: float
    method: str = "laser"
    options: tuple[tuple[str, Option], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelId:
    """Which weights: `repo` is the hub id, empty for a local directory, whose `revision` is a hash of its files."""

    name: str
    repo: str
    revision: str
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Which examples: `revision` is a hash of every prompt, answer and choice of the data set in order.

    `seed` shuffles the split, whose first `limit` examples are asked, so that a larger limit adds to a smaller one;
    both are None when the whole split is used. With `exact` nothing is computed in less than the model's own precision.
    """

    dataset: str
    revision: str
    split: Split
    limit: int | None = None
    seed: int | None = None
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One measurement: these edits on this model, scored on these examples. No edits is the untouched model.

    `intervention`, `tau`, `layer` and `rho` are how the request named the edits; they label a result and are not part
    of its identity.
    """

    model: ModelId
    edits: tuple[Edit, ...]
    evaluation: Evaluation
    intervention: str = field(default="none", compare=False)
    tau: str | None = field(default=None, compare=False)
    layer: int | None = field(default=None, compare=False)
    rho: float | None = field(default=None, compare=False)

    @property
    def untouched(self) -> bool:
        return not self.edits

    @property
    def key(self) -> str:
        """16 hexadecimal characters of blake2b over what changes the number, and nothing else.

        Names, paths and batch sizes are left out: the model is known by its revision, the data set by its content.
        """
        evaluation = self.evaluation
        identity = {
            "model": [self.model.repo, self.model.revision, self.model.dtype],
            "edits": [
                [
                    edit.matrix.tau,
                    edit.matrix.layer,
                    float(edit.rho) + 0.0,
                    edit.method,
                    sorted(map(list, edit.options)),
                ]
                for edit in sorted(self.edits)
            ],
            "evaluation": [evaluation.revision, evaluation.split, evaluation.limit, evaluation.seed, METRIC_VERSION],
            **({} if evaluation.exact else {"exact": False}),
        }
        return content_key(identity)

    def describe(self) -> str:
        """How a person names this trial: `fc_in[27] rho=0.01`."""
        if self.untouched:
            return "untouched"
        if self.tau is None or self.rho is None:
            return ", ".join(f"{edit.matrix} rho={edit.rho:g}" for edit in self.edits)
        layer = "all" if self.layer is None else self.layer
        blocks = dict(self.edits[0].options).get("clusters", 1)
        return f"{self.tau}[{layer}] rho={self.rho:g}{f' clusters={blocks}' if blocks != 1 else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Figures of merit over the examples of one trial; fractions are in 0..1, None where a figure has no meaning.

    Of answers to prompts: `accuracy`, and what follows it down to `prediction_counts`.
    `log_loss` is the mean of -log p(gold) / answer length over the full vocabulary, in nats. Where the answers are
    classes: `majority_accuracy` is what the best constant answer gets, `balanced_accuracy` the mean recall over
    classes, `prediction_counts` how often the model said which. Where an answer is one token: `top1_accuracy` and the
    like say how often the gold text is among the most probable tokens. `f1` is that of generated text.
    `group_accuracy` is the share of groups whose examples are all right, of those with all examples here.
    `num_skipped` counts the rows that could not be asked.

    Of episodes in an environment: `mean_return` is the mean of the sums of their rewards and `return_stderr` its
    standard error, sd / √n; `action_error` is the mean over episodes of the mean squared error of the model's actions
    against recorded ones; `success_rate` the share of episodes that the environment counts as solved.
    """

    num_examples: int
    accuracy: float | None = None
    accuracy_stderr: float | None = None
    log_loss: float | None = None
    num_skipped: int = 0
    majority_accuracy: float | None = None
    balanced_accuracy: float | None = None
    top1_accuracy: float | None = None
    top5_accuracy: float | None = None
    top10_accuracy: float | None = None
    f1: float | None = None
    group_accuracy: float | None = None
    prediction_counts: tuple[tuple[str, int], ...] | None = None
    mean_return: float | None = None
    return_stderr: float | None = None
    action_error: float | None = None
    success_rate: float | None = None

    @property
    def measures(self) -> Measures:
        """Which of these figures are the score and the loss."""
        return ANSWERS if self.mean_return is None else EPISODES

    @property
    def score(self) -> float:
        """The figure that says how good the model is: the larger the better."""
        value = self.accuracy if self.mean_return is None else self.mean_return
        if value is None:
            raise ValueError("neither accuracy nor return was measured")
        return value

    @property
    def score_stderr(self) -> float | None:
        return self.accuracy_stderr if self.mean_return is None else self.return_stderr

    @property
    def loss(self) -> float | None:
        """The figure that decides between equals: the smaller the better. None where it was not measured."""
        return self.log_loss if self.mean_return is None else self.action_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What the model said to each example; every array is (examples,).

    `gold_log_prob` is the sum over the `gold_length` tokens of the gold answer, in nats. `gold_rank` is the number of
    vocabulary entries more probable than the gold token (0 is top-1), of several tokens the largest. `text_rank` is
    the place of the gold text among the ten most probable tokens, -1 where it is not among them or not one token.
    `f1` is nan where nothing is generated. `group`, `subject`, `relation` and `frequency` are the data set's own,
    None where it has none.
    """

    example_id: tuple[str, ...]
    prediction: tuple[str, ...]
    gold: tuple[str, ...]
    correct: npt.NDArray[np.bool_]
    gold_log_prob: npt.NDArray[np.float64]
    gold_length: npt.NDArray[np.int64]
    gold_rank: npt.NDArray[np.int64]
    text_rank: npt.NDArray[np.int64]
    f1: npt.NDArray[np.float64]
    group: tuple[str | None, ...]
    subject: tuple[str | None, ...]
    relation: tuple[str | None, ...]
    frequency: tuple[float | None, ...]

    @property
    def scores(self) -> Scores:
        return self.correct


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """How each episode went; every array is (episodes,).

    `example_id` is the seed with which the environment was reset. `returns` are the sums of all rewards, `lengths` the
    numbers of steps. `success` says which episodes the environment counts as solved, None where it does not say;
    `action_error` is the mean squared error against the recorded actions of the same seed, nan where there are none.
    """

    example_id: tuple[str, ...]
    target_return: float
    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    success: npt.NDArray[np.bool_] | None
    action_error: npt.NDArray[np.float64]

    @property
    def scores(self) -> Scores:
        return self.returns


@dataclass(frozen=True, slots=True)
class ExampleScores:
    """How a trial did on each example: its score (examples,), and its loss (examples,), nan where there is none.

    The loss of an answer is -log p(gold) / length, in nats, that of an episode its action error.
    """

    example_ids: tuple[str, ...]
    scores: Scores
    losses: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Where the time of a trial went; `load` is nonzero for the first trial after a worker loaded a model."""

    factor: float = 0.0
    edit: float = 0.0
    eval: float = 0.0
    load: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What an edited matrix (m, n) is made of; None where a method does not say.

    `rank` counts the singular directions that are kept, over all blocks of rows. `parameters` counts the numbers that
    storing it takes: j (m_b + n) for a block of m_b rows that keeps j directions, m more where `row_clusters` has to be
    stored, and never more than m n, since factors that are larger are multiplied out. `row_clusters` (m,) is the block
    of each row, None where blocks are consecutive.
    """

    rank: int | None = None
    parameters: int | None = None
    row_clusters: npt.NDArray[np.uint16] | None = field(default=None, hash=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Footprint):
            return NotImplemented
        if (self.rank, self.parameters) != (other.rank, other.parameters):
            return False
        if self.row_clusters is None or other.row_clusters is None:
            return self.row_clusters is other.row_clusters
        return np.array_equal(self.row_clusters, other.row_clusters)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What became of a trial. `done` has metrics; `failed` has the reason in `error`. Times are UTC seconds since 1970.

    `footprints` has one for each edit, in their order, and is empty where none was made. `gain` is the score, accuracy
    or mean return, minus the untouched model's on the same examples, `gain_p_value` that of its test (`Measures.test`).
    """

    trial: Trial
    status: Literal["done", "failed"]
    error: str | None = None
    metrics: Metrics | None = None
    predictions: Predictions | Episodes | None = None
    footprints: tuple[Footprint, ...] = ()
    gain: float | None = None
    gain_p_value: float | None = None
    attempt: int = 1
    worker: str = ""
    device: str = ""
    seconds: Seconds = Seconds()
    started_at: float = 0.0
    finished_at: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == "done"

    @property
    def parameters(self) -> int | None:
        """How many numbers all edited matrices take; None where one of them has none, and where none was edited."""
        counts = [footprint.parameters for footprint in self.footprints if footprint.parameters is not None]
        return sum(counts) if counts and len(counts) == len(self.footprints) else None

    def measured(self) -> Metrics:
        """The metrics of a finished trial; a failed one has none and raises."""
        if self.metrics is None:
            raise ValueError(f"trial {self.trial.key} ({self.trial.describe()}) {self.status}: {self.error}")
        return self.metrics
