"""A language model that is asked prompts."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PreTrainedModel

from laser_sweep.engine.evaluation.answers import Answers, Questions
from laser_sweep.engine.evaluation.asked import Budget
from laser_sweep.engine.evaluation.batches import Collator
from laser_sweep.engine.evaluation.directions import Directions
from laser_sweep.engine.evaluation.gradients import slopes
from laser_sweep.engine.evaluation.metrics import summarise
from laser_sweep.engine.evaluation.replay import checked_forward
from laser_sweep.engine.evaluation.texts import TokenTexts
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.layout import Layout
from laser_sweep.engine.models.load import load_tokenizer
from laser_sweep.engine.models.positions import max_positions
from laser_sweep.engine.tasks.example import BadRow, Task
from laser_sweep.engine.tasks.tokenise import Encoded, encode
from laser_sweep.probe import Slopes
from laser_sweep.trial import Evaluation, Matrix, Metrics, Predictions


class LanguageModel:
    """A model with its tokenizer, and the passes that it was checked for."""

    def __init__(self, model: PreTrainedModel, layout: Layout, checkpoint: Checkpoint) -> None:
        self._tokenizer = load_tokenizer(checkpoint)
        self._texts = TokenTexts(self._tokenizer, model.get_output_embeddings().weight.shape[0])
        # What fills up the batches of a masked model, which is told so by a mask; a causal one needs no telling.
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else 0
        self._collator = Collator(model.device, None if checkpoint.family == "causal" else pad)
        self._forward = checked_forward(model, layout, self._collator)
        self._max_tokens = max_positions(model)
        self._read: dict[Evaluation, tuple[list[Encoded], list[BadRow]]] = {}

    def asked(self, task: Task, evaluation: Evaluation, budget: Budget) -> Prompts:
        """The examples of an evaluation, tokenised and batched."""
        encoded, bad_rows = self._encoded(task, evaluation)
        questions = Questions(
            task,
            encoded,
            self._forward,
            self._collator,
            self._tokenizer,
            self._texts,
            batch_tokens=budget.batch_tokens,
            device_bytes=budget.device_bytes,
            host_bytes=budget.host_bytes,
        )
        num_skipped = len({bad.row for bad in (*task.skipped(evaluation.split), *bad_rows)})
        return Prompts(questions, task.group_sizes, num_skipped)

    def slopes(
        self, task: Task, evaluation: Evaluation, directions: Mapping[Matrix, Directions], budget: Budget
    ) -> Mapping[Matrix, Slopes]:
        """The slopes of the log-loss."""
        encoded, _ = self._encoded(task, evaluation)
        return slopes(self._forward, self._collator, encoded, directions, batch_tokens=budget.batch_tokens)

    def _encoded(self, task: Task, evaluation: Evaluation) -> tuple[list[Encoded], list[BadRow]]:
        """Tokenised once for each evaluation."""
        if evaluation not in self._read:
            examples = task.split(evaluation.split, evaluation.limit, evaluation.seed)
            self._read[evaluation] = encode(task, examples, self._tokenizer, self._max_tokens)
        return self._read[evaluation]


class Prompts:
    """Questions and what is made of their answers."""

    def __init__(self, questions: Questions, group_sizes: Mapping[str, int], num_skipped: int) -> None:
        self._questions = questions
        self._group_sizes = group_sizes
        self._num_skipped = num_skipped

    def prepare(self, layer: int) -> None:
        self._questions.prepare(layer)

    def release(self) -> None:
        self._questions.release()

    def measure(self, *, keep_attention: bool = True) -> tuple[Metrics, Predictions]:
        answers = self._questions.ask(keep_attention=keep_attention)
        return summarise(answers, self._group_sizes, self._num_skipped), _predictions(answers)


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
