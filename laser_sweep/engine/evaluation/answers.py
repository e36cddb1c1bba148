"""The examples of an evaluation, tokenised once for a model, and asked again for every edit of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from laser_sweep.engine.evaluation.batches import Collator
from laser_sweep.engine.evaluation.forward import Forward
from laser_sweep.engine.evaluation.packing import alone, packed
from laser_sweep.engine.evaluation.replay import Replay
from laser_sweep.engine.evaluation.score import PassageScores, score
from laser_sweep.engine.evaluation.texts import TokenTexts, f1, says
from laser_sweep.engine.evaluation.writer import Writer
from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.engine.tasks.tokenise import Encoded, Passage


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said to each example, in the order of the task; the arrays are those of `Predictions`.

    `one_token` says whether every answer was read at one position.
    """

    examples: tuple[Example, ...]
    one_token: bool
    prediction: tuple[str, ...]
    correct: npt.NDArray[np.bool_]
    gold_log_prob: npt.NDArray[np.float64]
    gold_length: npt.NDArray[np.int64]
    gold_rank: npt.NDArray[np.int64]
    text_rank: npt.NDArray[np.int64]
    f1: npt.NDArray[np.float64]


class Questions:
    """Encoded examples of one task, in batches of at most `batch_tokens` tokens."""

    def __init__(
        self,
        task: Task,
        encoded: Sequence[Encoded],
        forward: Forward,
        collator: Collator,
        tokenizer: PreTrainedTokenizerBase,
        texts: TokenTexts,
        *,
        batch_tokens: int,
        device_bytes: int = 0,
        host_bytes: int = 0,
    ) -> None:
        self._scoring = task.scoring
        self._encoded = encoded
        self._forward = forward
        self._collator = collator
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._texts = texts
        self._passages: list[Passage] = []
        self._first: list[int] = []
        """The place of the first passage of each example; a passage of blanks follows the others."""
        for example in encoded:
            self._first.append(len(self._passages))
            self._passages += example.passages if example.blanks is None else (*example.passages, example.blanks)
        prompts = [one.prompt_ids for one in encoded if one.prompt_ids]
        self._writer = Writer(forward.model, prompts, task.scoring, batch_tokens=batch_tokens) if prompts else None
        self._first_draft: int | None = None
        """The place of the first passage over a draft; they stand behind all others."""
        self._budget = {"device_bytes": device_bytes, "host_bytes": host_bytes}
        self._lay_out()

    def __len__(self) -> int:
        return len(self._encoded)

    def _lay_out(self) -> None:
        rows = packed(self._passages) if self._forward.packs else alone(self._passages)
        batches = self._collator.batches(rows, self._batch_tokens)
        self._replay = Replay(self._forward, batches, **self._budget)

    def prepare(self, layer: int) -> None:
        """Computes what edits from block `layer` on leave as it is; the model must be untouched.

        That is what its blocks below give, for passes that start there, and drafts of the answers that it writes.
        """
        if self._writer is not None and self._writer.drafts and self._first_draft is None:
            self._first_draft = len(self._passages)
            self._passages += self._writer.draft()
            self._lay_out()
        self._replay.advance(layer)

    def release(self) -> None:
        """Gives back the memory of what was kept."""
        self._replay.release()

    def ask(self, *, keep_attention: bool = True) -> Answers:
        """Asks the model as it is now: from the prepared layer on, where one was, else whole.

        `keep_attention` says that the attention of the prepared layer is not edited.
        """
        scores = score(self._forward, self._replay.pieces(), self._collator, keep_attention=keep_attention)
        gold_rows = [first + one.gold for first, one in zip(self._first, self._encoded, strict=True)]
        answers = Answers(
            examples=tuple(one.example for one in self._encoded),
            one_token=all(one.kind == "token" for one in self._encoded),
            prediction=(),
            correct=np.zeros(len(self), dtype=bool),
            gold_log_prob=scores.log_prob[gold_rows],
            gold_length=np.array([one.gold_length for one in self._encoded]),
            gold_rank=scores.rank[gold_rows],
            text_rank=np.full(len(self), -1),
            f1=np.full(len(self), np.nan),
        )
        predictions: dict[int, str] = {}
        for kind, judge in (("token", self._tokens), ("choices", self._choices), ("generation", self._generations)):
            places = [place for place, one in enumerate(self._encoded) if one.kind == kind]
            if places:
                predictions |= zip(places, judge(places, scores, answers), strict=True)
        return replace(answers, prediction=tuple(predictions[place] for place in range(len(self))))

    def _tokens(self, places: list[int], scores: PassageScores, answers: Answers) -> list[str]:
        """Right is the choice that is more probable than the others; without choices the text of the top token."""
        rows = [self._first[place] for place in places]
        golds = [self._encoded[place].example.gold for place in places]
        top_ids = scores.top_ids[rows]  # (examples, 10)
        matches = self._texts.matches(top_ids, golds)
        answers.text_rank[places] = np.where(matches.any(axis=1), matches.argmax(axis=1), -1)
        # as probable as the top token: right only if all of them read as the answer
        tied = np.arange(top_ids.shape[1]) < scores.num_best[rows][:, None]
        answers.correct[places] = (matches | ~tied).all(axis=1)
        predictions = [self._texts.text(token) for token in top_ids[:, 0].tolist()]
        for number, (place, row) in enumerate(zip(places, rows, strict=True)):
            passage, example = self._encoded[place].passages[0], self._encoded[place].example
            if passage.candidates:
                logits = scores.candidate_logits[row, : len(passage.candidates)]
                predictions[number] = example.choices[int(logits.argmax())]
                answers.correct[place] = _beats(logits, np.array(passage.candidates) == passage.targets[0])
        return predictions

    def _choices(self, places: list[int], scores: PassageScores, answers: Answers) -> list[str]:
        """Right is the choice with the largest sum of log p over its tokens."""
        predictions = []
        for place in places:
            encoded, first = self._encoded[place], self._first[place]
            sums = scores.log_prob[first : first + len(encoded.passages)]
            choices = encoded.example.choices
            predictions.append(choices[int(sums.argmax())])
            answers.correct[place] = _beats(sums, np.array([choice == encoded.example.gold for choice in choices]))
        return predictions

    def _generations(self, places: list[int], scores: PassageScores, answers: Answers) -> list[str]:
        """Right is a text in which the answer stands. The published code looks for it in the prompt as well."""
        written = self._written(places, scores)
        published = self._scoring.published
        predictions = []
        for place, ids in zip(places, written, strict=True):
            encoded = self._encoded[place]
            text, gold = self._decode(ids), encoded.example.gold
            searched = self._decode((*encoded.prompt_ids, *ids)) if published else text
            answers.correct[place] = says(searched, gold)
            answers.f1[place] = f1(searched, gold, published=published)
            predictions.append(text.strip())
        return predictions

    def _written(self, places: list[int], scores: PassageScores) -> list[tuple[int, ...]]:
        if self._writer is None:
            blanks = [self._first[place] + len(self._encoded[place].passages) for place in places]
            return [tuple(scores.best_ids[row].tolist()) for row in blanks]
        if self._first_draft is None:
            return self._writer.write()
        return self._writer.write_on(scores.best_ids[self._first_draft :], scores.top_ids[self._first_draft :])

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _beats(values: npt.NDArray[np.floating], gold: npt.NDArray[np.bool_]) -> bool:
    """Whether the gold value is larger than every other."""
    return bool(values[gold].max() > values[~gold].max(initial=-np.inf))
