"""One model on one device: runs trials, one after the other, and yields their results."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from laser_sweep.engine.editing.editor import Editor, RestoreError
from laser_sweep.engine.evaluation.batches import Batch, make_batches
from laser_sweep.engine.evaluation.metrics import summarise
from laser_sweep.engine.evaluation.score import Scores, score
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.load import load_model, load_tokenizer
from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.engine.tasks.tokenise import encode
from laser_sweep.errors import RequestError
from laser_sweep.trial import Evaluation, ModelId, Predictions, Seconds, Trial, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model and a data set that trials may ask for; `batch_tokens` bounds a batch, padding counted."""

    checkpoint: Checkpoint
    task: Task
    batch_tokens: int = 8192


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    editor: Editor
    questions: dict[Evaluation, tuple[tuple[Example, ...], list[Batch]]]


class Worker:
    """Runs any trial of its workloads. A model is loaded when a trial first asks for it, and kept until another is.

    >>> worker = Worker([Workload(checkpoint=find_checkpoint(model), task=load_task(dataset))])
    >>> for result in worker.run(trials): ...
    """

    def __init__(self, workloads: Sequence[Workload], *, device: str | None = None) -> None:
        self._workloads = {(load.checkpoint.identity, load.task.revision): load for load in workloads}
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._loaded: _Loaded | None = None
        self._loaded_id: ModelId | None = None
        self._seconds_load = 0.0
        self.name = f"{socket.gethostname()}-{os.getpid()}"

    def run(self, trials: Iterable[Trial]) -> Iterator[TrialResult]:
        """Yields one result for each trial. One that cannot be computed is `failed` with its reason; the rest go on.

        Raises RequestError where the model or the data set itself cannot be used.
        """
        for trial in trials:
            started_at = time.time()
            try:
                result = self._measure(trial)
            except RequestError:
                raise
            except RestoreError as error:
                self._loaded = self._loaded_id = None  # the weights are spoilt: the next trial loads them again
                result = TrialResult(trial=trial, status="failed", error=str(error))
            except Exception as error:
                result = TrialResult(trial=trial, status="failed", error=f"{type(error).__name__}: {error}")
            seconds = replace(result.seconds, load=self._seconds_load)
            self._seconds_load = 0.0
            yield replace(
                result,
                seconds=seconds,
                worker=self.name,
                device=self._device_name(),
                started_at=started_at,
                finished_at=time.time(),
            )

    def _measure(self, trial: Trial) -> TrialResult:
        workload = self._workloads[trial.model, trial.evaluation.revision]
        loaded = self._load(workload.checkpoint)
        examples, batches = self._questions(loaded, workload, trial.evaluation)
        with loaded.editor.applied(trial.edits) as applied:
            started = time.perf_counter()
            scores = score(loaded.model, batches)
            seconds_eval = time.perf_counter() - started
        return TrialResult(
            trial=trial,
            status="done",
            metrics=summarise(scores, examples),
            predictions=_predictions(scores, examples, loaded.tokenizer),
            ranks=applied.ranks,
            seconds=Seconds(factor=applied.seconds_factor, edit=applied.seconds_edit, eval=seconds_eval),
        )

    def _load(self, checkpoint: Checkpoint) -> _Loaded:
        if self._loaded is None or self._loaded_id != checkpoint.identity:
            self._loaded = None  # frees the old model before the new one needs the room
            started = time.perf_counter()
            model = load_model(checkpoint, self._device)
            self._loaded = _Loaded(model, load_tokenizer(checkpoint), Editor(find_layout(model)), {})
            self._loaded_id = checkpoint.identity
            self._seconds_load = time.perf_counter() - started
        return self._loaded

    def _questions(
        self, loaded: _Loaded, workload: Workload, evaluation: Evaluation
    ) -> tuple[tuple[Example, ...], list[Batch]]:
        """The examples of an evaluation and their batches, tokenised once for each model."""
        if evaluation not in loaded.questions:
            examples = workload.task.split(evaluation.split, evaluation.limit, evaluation.seed)
            encoded = encode(examples, loaded.tokenizer, max_tokens(loaded.model.config))
            loaded.questions[evaluation] = (examples, make_batches(encoded, workload.batch_tokens, self._device))
        return loaded.questions[evaluation]

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else str(self._device)


def max_tokens(model_config: PreTrainedConfig) -> int | None:
    """How many positions a model reads, None where its configuration sets no bound."""
    config = model_config.get_text_config()
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    return None


def _predictions(scores: Scores, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> Predictions:
    texts = [
        example.choices[index] if example.choices else str(tokenizer.decode([index])).strip()
        for index, example in zip(scores.predicted.tolist(), examples, strict=True)
    ]
    return Predictions(
        example_id=tuple(example.id for example in examples),
        prediction=tuple(texts),
        gold=tuple(example.gold for example in examples),
        correct=scores.correct,
        gold_log_prob=scores.gold_log_prob,
        gold_rank=scores.gold_rank,
        group=tuple(example.group for example in examples),
        frequency=tuple(example.frequency for example in examples),
    )
