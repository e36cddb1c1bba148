"""One composed configuration -> a job: the model and data set found and checked, the trials named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from laser_sweep.engine.models.checkpoint import Checkpoint, fetch_weights, find_checkpoint, read_settings
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import AskedModel, BadRow
from laser_sweep.engine.tasks.registry import ROLLOUTS, AnyTask, check_family, load_task
from laser_sweep.engine.tasks.rollouts import Rollouts
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError
from laser_sweep.measures import Objective
from laser_sweep.sweep.protocols import Candidate
from laser_sweep.sweep.search.space import Axes, Intervention, Space, check_layers, check_taus, find_space
from laser_sweep.sweep.search.spec import GridSpec, SearchSpec
from laser_sweep.trial import Evaluation, ExampleScores, Split, Trial

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """What the `evaluation` config group says. `limit` bounds the examples of val, `test_limit` those of test."""

    split: Literal["val", "all"] = "val"
    confirm: bool = True
    limit: int | None = None
    test_limit: int | None = None
    exact: bool = True
    batch_tokens: int = 8192
    activation_budget_gb: float = 4.0
    host_budget_gb: float = 16.0

    @property
    def search_splits(self) -> tuple[Split, ...]:
        """The splits on which every trial is measured."""
        return ("val",) if self.split == "val" else ("val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSpec:
    """What the `guard` config group says.

    On val of this data set, or `limit` examples of it, a winner's log-loss, or action error, is at most `bound` above
    the untouched model's.
    """

    dataset: DatasetSpec
    bound: float
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one composed configuration, in the terms of the library."""

    sweep: str
    model: ModelSpec
    dataset: DatasetSpec
    intervention: Intervention
    axes: Axes
    evaluation: EvaluationSpec
    seed: int
    config_json: str
    search: SearchSpec = field(default_factory=GridSpec)
    objective: Objective = "accuracy"
    guard: GuardSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A question whose model and data set are at hand, with what there is to choose from.

    `prompt_tokens` is what one trial reads on each split, `parameters` and `num_layers` say the size of the model;
    `bad_rows` are those of the data set that are not asked. `guard` asks the same model the guard's data set.
    """

    question: Question
    checkpoint: Checkpoint
    task: AnyTask
    space: Space
    prompt_tokens: Mapping[Split, int]
    parameters: int
    num_layers: int
    bad_rows: tuple[BadRow, ...] = ()
    guard: Job | None = None

    def evaluation(self, split: Split, limit: int | None = None) -> Evaluation:
        """The examples of a split that the question allows, or the first `limit` of them as they are drawn."""
        return _evaluation(self.question, self.task, split, limit)

    def sample(self, count: int | Literal["all"]) -> Evaluation:
        """The first `count` examples of val as limits draw them, or all of it, whatever the question allows.

        Raises RequestError for more than there are.
        """
        there = len(self.task.split("val"))
        if count != "all" and count > there:
            raise RequestError(
                f"search.gradient_samples={count} is more than the {there:,} examples of val of {self.task.name}; "
                f"give {there} or less, or all"
            )
        limit = None if count == "all" else count
        whole = replace(self.question, evaluation=replace(self.question.evaluation, limit=limit))
        return _evaluation(whole, self.task, "val")

    def num_examples(self, split: Split, limit: int | None = None) -> int:
        """How many examples that are."""
        asked = self.evaluation(split, limit).limit
        return len(self.task.split(split)) if asked is None else asked

    def tokens(self, evaluation: Evaluation) -> int:
        """What one trial of an evaluation of this data set reads, from what the question's own reads."""
        split = evaluation.split
        asked = len(self.task.split(split)) if evaluation.limit is None else evaluation.limit
        return round(self.prompt_tokens[split] * asked / self.num_examples(split))

    def untouched(self, split: Split, limit: int | None = None) -> Trial:
        return Trial(model=self.checkpoint.identity, edits=(), evaluation=self.evaluation(split, limit))

    def trial(self, candidate: Candidate, split: Split, limit: int | None = None) -> Trial:
        """A candidate measured on this data set; without edits it is the untouched model."""
        return Trial(
            model=self.checkpoint.identity,
            edits=candidate.edits,
            evaluation=self.evaluation(split, limit),
            intervention=candidate.intervention,
            tau=candidate.tau,
            layer=candidate.layer,
            rho=candidate.rho,
        )

    def trials(self, split: Split) -> list[Trial]:
        """The whole grid on a split."""
        return [self.trial(candidate, split) for candidate in self.space.grid()]

    def as_drawn(self, scores: ExampleScores, split: Split) -> ExampleScores:
        """Scores in the order in which limits draw the examples, so that those of a larger limit only go on."""
        examples = self.task.split(split)
        order = {examples[place].id: number for number, place in enumerate(self.task.drawn(split, self.question.seed))}
        places = sorted(range(len(scores.example_ids)), key=lambda place: order[scores.example_ids[place]])
        ids = tuple(scores.example_ids[place] for place in places)
        return ExampleScores(ids, scores.scores[places], scores.losses[places])


def _evaluation(question: Question, task: AnyTask, split: Split, limit: int | None = None) -> Evaluation:
    allowed = question.evaluation.limit if split == "val" else question.evaluation.test_limit
    limit = min((bound for bound in (allowed, limit) if bound is not None), default=None)
    partial = limit is not None and limit < len(task.split(split))
    return Evaluation(
        dataset=task.name,
        revision=task.revision,
        split=split,
        limit=limit if partial else None,
        seed=question.seed if partial else None,
        exact=question.evaluation.exact,
    )


def build_jobs(questions: Iterable[Question]) -> list[Job]:
    """Builds every job, finding each model and reading each data set once.

    Cheap checks come first, so that a mistake is reported as soon as it can be known. Raises RequestError.
    """
    builder = _JobBuilder()
    return [builder.build(question) for question in questions]


class _JobBuilder:
    def __init__(self) -> None:
        self._checkpoints: dict[ModelSpec, Checkpoint] = {}
        self._tasks: dict[tuple[DatasetSpec, ModelSpec], AnyTask] = {}
        self._models: dict[Checkpoint, _Model] = {}

    def build(self, question: Question) -> Job:
        check_taus(question.axes)
        if question.model not in self._checkpoints:
            self._checkpoints[question.model] = find_checkpoint(question.model)
        checkpoint = self._checkpoints[question.model]
        check_family(question.dataset, checkpoint.family, question.model.name)
        if not checkpoint.identity.repo:
            fetch_weights(checkpoint)  # nothing to download: this only says at once that there are none
        if checkpoint.num_layers is not None:
            check_layers(question.axes, checkpoint.num_layers, question.model.name)
        task = self._task(question.dataset, checkpoint)
        if question.guard is not None:
            check_family(question.guard.dataset, checkpoint.family, question.model.name)
            self._task(question.guard.dataset, checkpoint)
        if checkpoint not in self._models:
            self._models[checkpoint] = _Model(checkpoint)
        model = self._models[checkpoint]
        splits: tuple[Split, ...] = ("val", "test")
        readings = {split: model.read(task, _evaluation(question, task, split)) for split in splits}
        return Job(
            question=question,
            checkpoint=checkpoint,
            task=task,
            space=model.space(question),
            prompt_tokens={split: reading.num_tokens for split, reading in readings.items()},
            parameters=model.parameters,
            num_layers=model.num_layers,
            bad_rows=tuple(sorted({*task.bad_rows, *(bad for split in splits for bad in readings[split].bad_rows)})),
            guard=self._guard(question),
        )

    def _guard(self, question: Question) -> Job | None:
        """The job that asks the guard's data set."""
        spec = question.guard
        if spec is None:
            return None
        evaluation = replace(question.evaluation, limit=spec.limit)
        if spec.dataset.format == ROLLOUTS and spec.dataset.path is None:
            raise RequestError(
                f"guard.dataset={spec.dataset.name} goes by the action error, which takes recorded episodes; "
                "set guard.dataset.path=<file>"
            )
        return self.build(replace(question, dataset=spec.dataset, evaluation=evaluation, guard=None))

    def _task(self, dataset: DatasetSpec, checkpoint: Checkpoint) -> AnyTask:
        """The data set as this model reads it."""
        key = dataset, checkpoint.spec
        if key not in self._tasks:
            asked = AskedModel(
                checkpoint.family, partial(_load_tokenizer, checkpoint), partial(read_settings, checkpoint)
            )
            self._tasks[key] = load_task(dataset, asked)
        return self._tasks[key]


def _load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    from laser_sweep.engine.models.load import load_tokenizer

    return load_tokenizer(checkpoint)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a model reads in an evaluation, and what it cannot be asked."""

    num_tokens: int
    bad_rows: tuple[BadRow, ...]


class _Model:
    """What planning needs of a model: its matrices and its tokenizer, but no weights. Imports torch."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from laser_sweep.engine.models.layout import find_layout
        from laser_sweep.engine.models.load import load_skeleton
        from laser_sweep.engine.models.positions import max_positions

        skeleton = load_skeleton(checkpoint)
        self.parameters = skeleton.num_parameters()
        self._layout = find_layout(skeleton, checkpoint.spec.roles)
        self._max_tokens = max_positions(skeleton)
        self._tokenizer = None if checkpoint.family == "decision_transformer" else _load_tokenizer(checkpoint)
        self._readings: dict[Evaluation, _Reading] = {}

    @property
    def num_layers(self) -> int:
        return self._layout.num_layers

    def space(self, question: Question) -> Space:
        return find_space(question.axes, question.intervention, self._layout, question.model.name)

    def read(self, task: AnyTask, evaluation: Evaluation) -> _Reading:
        if evaluation not in self._readings:
            self._readings[evaluation] = self._read(task, evaluation)
        return self._readings[evaluation]

    def _read(self, task: AnyTask, evaluation: Evaluation) -> _Reading:
        if isinstance(task, Rollouts):  # an episode may be shorter: how long it is shows when it is played
            episodes = task.split(evaluation.split, evaluation.limit, evaluation.seed)
            return _Reading(len(episodes) * task.tokens_an_episode, ())
        from laser_sweep.engine.tasks.tokenise import encode

        assert self._tokenizer is not None
        examples = task.split(evaluation.split, evaluation.limit, evaluation.seed)
        encoded, bad_rows = encode(task, examples, self._tokenizer, self._max_tokens)
        return _Reading(sum(one.num_tokens for one in encoded), tuple(bad_rows))
