"""One composed configuration -> a job: the model and data set found and checked, the trials named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from laser_sweep.engine.models.checkpoint import Checkpoint, fetch_weights, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Task
from laser_sweep.engine.tasks.registry import load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError
from laser_sweep.sweep.search.grid import Axes, Intervention, Proposal, check_layers, check_taus, expand
from laser_sweep.trial import Evaluation, Split, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """What the `evaluation` config group says. `limit` bounds the examples of val, `test_limit` those of test."""

    split: Literal["val", "all"] = "val"
    confirm: bool = True
    limit: int | None = None
    test_limit: int | None = None
    batch_tokens: int = 8192

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

    `prompt_tokens` is what one trial reads on each split, `parameters` the size of the model.
    """

    question: Question
    checkpoint: Checkpoint
    task: Task
    proposals: tuple[Proposal, ...]
    prompt_tokens: dict[Split, int]
    parameters: int

    def evaluation(self, split: Split) -> Evaluation:
        spec = self.question.evaluation
        limit = spec.limit if split == "val" else spec.test_limit
        partial = limit is not None and limit < len(self.task.split(split))
        return Evaluation(
            dataset=self.task.name,
            revision=self.task.revision,
            split=split,
            limit=limit if partial else None,
            seed=self.question.seed if partial else None,
        )

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


def build_jobs(questions: Iterable[Question]) -> list[Job]:
    """Builds every job, finding each model and reading each data set once.

    Cheap checks come first, so that a mistake is reported as soon as it can be known. Raises RequestError.
    """
    builder = _JobBuilder()
    return [builder.build(question) for question in questions]


class _JobBuilder:
    def __init__(self) -> None:
        self._checkpoints: dict[ModelSpec, Checkpoint] = {}
        self._tasks: dict[DatasetSpec, Task] = {}
        self._models: dict[Checkpoint, _Model] = {}
        self._tokens: dict[tuple[Checkpoint, Evaluation], int] = {}

    def build(self, question: Question) -> Job:
        check_taus(question.axes)
        if question.model not in self._checkpoints:
            self._checkpoints[question.model] = find_checkpoint(question.model)
        checkpoint = self._checkpoints[question.model]
        if not checkpoint.identity.repo:
            fetch_weights(checkpoint)  # nothing to download: this only says at once that there are none
        if checkpoint.num_layers is not None:
            check_layers(question.axes, checkpoint.num_layers, question.model.name)
        if question.dataset not in self._tasks:
            self._tasks[question.dataset] = load_task(question.dataset)
        task = self._tasks[question.dataset]
        if checkpoint not in self._models:
            self._models[checkpoint] = _Model(checkpoint)
        model = self._models[checkpoint]
        job = Job(
            question=question,
            checkpoint=checkpoint,
            task=task,
            proposals=tuple(model.expand(question)),
            prompt_tokens={},
            parameters=model.parameters,
        )
        for split in ("val", "test"):
            evaluation = job.evaluation(split)
            if (checkpoint, evaluation) not in self._tokens:
                self._tokens[checkpoint, evaluation] = model.count_tokens(task, evaluation)
            job.prompt_tokens[split] = self._tokens[checkpoint, evaluation]
        return job


class _Model:
    """What planning needs of a model: its matrices and its tokenizer, but no weights. Imports torch."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        from laser_sweep.engine.models.layout import find_layout
        from laser_sweep.engine.models.load import load_skeleton, load_tokenizer

        skeleton = load_skeleton(checkpoint)
        self.parameters = skeleton.num_parameters()
        self._layout = find_layout(skeleton)
        self._config = skeleton.config
        self._tokenizer = load_tokenizer(checkpoint)

    def expand(self, question: Question) -> list[Proposal]:
        return expand(question.axes, question.intervention, self._layout, question.model.name)

    def count_tokens(self, task: Task, evaluation: Evaluation) -> int:
        """The tokens of the prompts of an evaluation. Raises RequestError for an example that cannot be asked."""
        from laser_sweep.engine.tasks.tokenise import encode
        from laser_sweep.engine.worker import max_tokens

        examples = task.split(evaluation.split, evaluation.limit, evaluation.seed)
        try:
            encoded = encode(examples, self._tokenizer, max_tokens(self._config))
        except RequestError as error:
            raise RequestError(f"dataset={task.name} {error}") from None
        return sum(len(one.input_ids) for one in encoded)
