"""One model on one device: runs trials, one after the other, and yields their results."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from laser_sweep.engine.editing.cache import open_cache
from laser_sweep.engine.editing.editor import Editor, RestoreError
from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.evaluation.answers import Answers, Questions
from laser_sweep.engine.evaluation.batches import Collator
from laser_sweep.engine.evaluation.forward import Forward
from laser_sweep.engine.evaluation.metrics import summarise
from laser_sweep.engine.evaluation.replay import checked_forward
from laser_sweep.engine.evaluation.texts import TokenTexts
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.load import load_model, load_tokenizer
from laser_sweep.engine.models.positions import max_positions
from laser_sweep.engine.tasks.example import Task
from laser_sweep.engine.tasks.tokenise import encode
from laser_sweep.errors import RequestError
from laser_sweep.trial import GROUPS, Evaluation, ModelId, Predictions, Seconds, Trial, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model and a data set that trials may ask for; `batch_tokens` bounds a batch, padding counted.

    What the untouched model computes below an edit is kept on the device up to `activation_budget_gb`, and on a GPU's
    host up to `host_budget_gb` more.
    """

    checkpoint: Checkpoint
    task: Task
    batch_tokens: int = 8192
    activation_budget_gb: float = 4.0
    host_budget_gb: float = 16.0


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    editor: Editor
    forward: Forward
    collator: Collator
    texts: TokenTexts
    asked: dict[Evaluation, _Asked]


@dataclass(frozen=True, slots=True)
class _Asked:
    questions: Questions
    num_skipped: int


class Worker:
    """Runs any trial of its workloads. A model is loaded when a trial first asks for it, and kept until another is.

    >>> worker = Worker([Workload(checkpoint=find_checkpoint(model), task=load_task(dataset))])
    >>> for result in worker.run(trials): ...
    """

    def __init__(
        self, workloads: Sequence[Workload], *, device: str | None = None, cache: CacheSpec | None = None
    ) -> None:
        self._workloads = {(load.checkpoint.identity, load.task.revision): load for load in workloads}
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._cache = None if cache is None else open_cache(cache)
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
        loaded.editor.check(trial.edits)
        asked = self._questions(loaded, workload, trial.evaluation)
        for other in loaded.asked.values():
            if other is not asked or not trial.edits:
                other.questions.release()
        started = time.perf_counter()
        lowest = min((edit.matrix.layer for edit in trial.edits), default=None)
        if lowest is not None:
            with _precision(exact=trial.evaluation.exact):
                asked.questions.prepare(lowest)
        seconds_eval = time.perf_counter() - started
        with loaded.editor.applied(trial.edits) as applied:
            started = time.perf_counter()
            with _precision(exact=trial.evaluation.exact):
                answers = asked.questions.ask(keep_attention=not _edits_attention(trial, lowest))
            seconds_eval += time.perf_counter() - started
        return TrialResult(
            trial=trial,
            status="done",
            metrics=summarise(answers, workload.task.group_sizes, asked.num_skipped),
            predictions=_predictions(answers),
            ranks=applied.ranks,
            seconds=Seconds(factor=applied.seconds_factor, edit=applied.seconds_edit, eval=seconds_eval),
        )

    def _load(self, checkpoint: Checkpoint) -> _Loaded:
        if self._loaded is None or self._loaded_id != checkpoint.identity:
            self._loaded = None  # frees the old model before the new one needs the room
            started = time.perf_counter()
            model = load_model(checkpoint, self._device)
            tokenizer = load_tokenizer(checkpoint)
            texts = TokenTexts(tokenizer, model.get_output_embeddings().weight.shape[0])
            layout = find_layout(model, checkpoint.spec.roles)
            collator = Collator(model.device, _pad_token_id(checkpoint, tokenizer))
            forward = checked_forward(model, layout, collator)
            editor = Editor(layout, cache=self._cache)
            self._loaded = _Loaded(model, tokenizer, editor, forward, collator, texts, {})
            self._loaded_id = checkpoint.identity
            self._seconds_load = time.perf_counter() - started
        return self._loaded

    def _questions(self, loaded: _Loaded, workload: Workload, evaluation: Evaluation) -> _Asked:
        """The examples of an evaluation, tokenised and batched once for each model."""
        if evaluation not in loaded.asked:
            task = workload.task
            examples = task.split(evaluation.split, evaluation.limit, evaluation.seed)
            encoded, bad_rows = encode(task, examples, loaded.tokenizer, max_positions(loaded.model))
            questions = Questions(
                task,
                encoded,
                loaded.forward,
                loaded.collator,
                loaded.tokenizer,
                loaded.texts,
                batch_tokens=workload.batch_tokens,
                device_bytes=int(workload.activation_budget_gb * 2**30),
                host_bytes=int(workload.host_budget_gb * 2**30),
            )
            num_skipped = len({bad.row for bad in (*task.skipped(evaluation.split), *bad_rows)})
            loaded.asked[evaluation] = _Asked(questions, num_skipped)
        return loaded.asked[evaluation]

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else str(self._device)


@contextmanager
def _precision(*, exact: bool) -> Iterator[None]:
    """Inside, products of float32 matrices on a GPU are computed in TF32 unless they are to be exact."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = not exact
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _edits_attention(trial: Trial, layer: int | None) -> bool:
    """Whether an edit of this layer is one of its attention."""
    return any(e.matrix.layer == layer and e.matrix.tau.partition(".")[0] in GROUPS["attn"] for e in trial.edits)


def _pad_token_id(checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """What fills up the batches of a masked model, which is told so by a mask; a causal one needs no telling."""
    if checkpoint.family == "causal":
        return None
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0


def _predictions(answers: Answers) -> Predictions:
    examples = answers.examples
    return Predictions(
        example_id=tuple(example.id for example in examples),
        prediction=answers.prediction,
        gold=tuple(example.gold for example in examples),
        correct=answers.correct,
        gold_log_prob=answers.gold_log_prob,
        gold_length=answers.gold_length,
        gold_rank=answers.gold_rank,
        text_rank=answers.text_rank,
        f1=answers.f1,
        group=tuple(example.group for example in examples),
        subject=tuple(example.subject for example in examples),
        relation=tuple(example.relation for example in examples),
        frequency=tuple(example.frequency for example in examples),
    )
