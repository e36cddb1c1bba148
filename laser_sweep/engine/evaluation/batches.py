"""Length-sorted batches within a token budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from laser_sweep.engine.tasks.tokenise import Encoded


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts of similar length, padded on the right.

    `indices` are the places of the rows in the task's order. `input_ids` is (batch, tokens), `answer_positions` the
    last real token of each row (batch,), `gold_ids` (batch,), `choice_ids` (batch, choices), with no column where the
    task has no choices.

    There is no attention mask: behind a causal mask, right padding is never looked at by a real token.
    """

    indices: tuple[int, ...]
    input_ids: torch.Tensor
    answer_positions: torch.Tensor
    gold_ids: torch.Tensor
    choice_ids: torch.Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def halves(self) -> tuple[Batch, Batch]:
        """The same rows in two batches, for a device that could not hold them in one."""
        middle = len(self) // 2
        return self._rows(slice(None, middle)), self._rows(slice(middle, None))

    def _rows(self, rows: slice) -> Batch:
        return Batch(
            self.indices[rows],
            self.input_ids[rows],
            self.answer_positions[rows],
            self.gold_ids[rows],
            self.choice_ids[rows],
        )


def make_batches(encoded: Sequence[Encoded], max_tokens: int, device: torch.device) -> list[Batch]:
    """Batches of at most `max_tokens` tokens, padding counted; longest first, so that a lack of memory shows early."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].input_ids), reverse=True)
    batches: list[Batch] = []
    start = 0
    while start < len(order):
        longest = len(encoded[order[start]].input_ids)
        rows = order[start : start + max(1, max_tokens // longest)]
        batches.append(_collate(rows, encoded, device))
        start += len(rows)
    return batches


def _collate(rows: Sequence[int], encoded: Sequence[Encoded], device: torch.device) -> Batch:
    prompts = [encoded[row].input_ids for row in rows]
    width = max(len(ids) for ids in prompts)
    # Padding repeats the last token: any id will do, and a pad token makes transformers warn about a missing mask.
    padded = [ids + ids[-1:] * (width - len(ids)) for ids in prompts]
    return Batch(
        indices=tuple(rows),
        input_ids=torch.tensor(padded, device=device),
        answer_positions=torch.tensor([len(ids) - 1 for ids in prompts], device=device),
        gold_ids=torch.tensor([encoded[row].gold_id for row in rows], device=device),
        choice_ids=torch.tensor([encoded[row].choice_ids for row in rows], dtype=torch.long, device=device),
    )
