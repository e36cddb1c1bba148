"""One composed configuration -> a job: the model and data set found and checked, the trials named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from laser_sweep.engine.models.checkpoint import Checkpoint, fetch_weights, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import AskedModel, BadRow, Task
from laser_sweep.engine.tasks.registry import check_family, load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.sweep.search.grid import Axes, Intervention, Proposal, check_layers, check_taus, expand
from laser_sweep.trial import Evaluation, Split, Trial

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A question whose model and data set are at hand, with the trials that answer it.

    `prompt_tokens` is what one trial reads on each split, `parameters` and `num_layers` say the size of the model;
    `bad_rows` are those of the data set that are not asked.
    """

    question: Question
    checkpoint: Checkpoint
    task: Task
    proposals: tuple[Proposal, ...]
    prompt_tokens: Mapping[Split, int]
    parameters: int
    num_layers: int
    bad_rows: tuple[BadRow, ...] = ()

    def evaluation(self, split: Split) -> Evaluation:
        return _evaluation(self.question, self.task, split)

    def untouched(self, split: Split) -> Trial:
        return Trial(model=self.checkpoint.identity, edits=(), evaluation=self.evaluation(split))

    def trials(self, split: Split) -> list[Trial]:
        """The edited trials on a split."""
        evaluation = self.evaluation(split)
        return [
            Trial(
                model=self.checkpoint.identity,
                edits=proposal.edits,
                evaluation=evaluation,
                intervention=self.question.intervention.name,
                tau=proposal.tau,
                layer=proposal.layer,
                rho=proposal.rho,
            )
            for proposal in self.proposals
        ]


def _evaluation(question: Question, task: Task, split: Split) -> Evaluation:
    limit = question.evaluation.limit if split == "val" else question.evaluation.test_limit
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
        self._tasks: dict[tuple[DatasetSpec, ModelSpec], Task] = {}
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
        if checkpoint not in self._models:
            self._models[checkpoint] = _Model(checkpoint)
        model = self._models[checkpoint]
        splits: tuple[Split, ...] = ("val", "test")
        readings = {split: model.read(task, _evaluation(question, task, split)) for split in splits}
        return Job(
            question=question,
            checkpoint=checkpoint,
            task=task,
            proposals=tuple(model.expand(question)),
            prompt_tokens={split: reading.num_tokens for split, reading in readings.items()},
            parameters=model.parameters,
            num_layers=model.num_layers,
            bad_rows=tuple(sorted({*task.bad_rows, *(bad for split in splits for bad in readings[split].bad_rows)})),
        )

    def _task(self, dataset: DatasetSpec, checkpoint: Checkpoint) -> Task:
        """The data set as this model reads it."""
        key = dataset, checkpoint.spec
        if key not in self._tasks:
            self._tasks[key] = load_task(dataset, AskedModel(checkpoint.family, partial(_load_tokenizer, checkpoint)))
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
        self._tokenizer = _load_tokenizer(checkpoint)
        self._readings: dict[Evaluation, _Reading] = {}

    @property
    def num_layers(self) -> int:
        return self._layout.num_layers

    def expand(self, question: Question) -> list[Proposal]:
        return expand(question.axes, question.intervention, self._layout, question.model.name)

    def read(self, task: Task, evaluation: Evaluation) -> _Reading:
        if evaluation not in self._readings:
            from laser_sweep.engine.tasks.tokenise import encode

            examples = task.split(evaluation.split, evaluation.limit, evaluation.seed)
            encoded, bad_rows = encode(task, examples, self._tokenizer, self._max_tokens)
            tokens = sum(one.num_tokens for one in encoded)
            self._readings[evaluation] = _Reading(tokens, tuple(bad_rows))
        return self._readings[evaluation]
