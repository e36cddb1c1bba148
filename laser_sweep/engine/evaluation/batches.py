"""Length-sorted batches within a token budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch

from laser_sweep.engine.tasks.tokenise import Passage


@dataclass(frozen=True, slots=True)
class Batch:
    """Passages of similar length, padded on the right.

    `indices` are their places in the order of the task. `input_ids` is (batch, tokens). The logits are read at `places`
    (2, reads): row and position of each read, passage by passage, `num_reads` (batch,) of them; `targets` is (reads,).
    `candidates` is (batch, most candidates), filled up with -1. `attention_mask` (batch, tokens) is None behind a
    causal mask, where no real token looks at padding on the right.
    """

    indices: tuple[int, ...]
    passages: tuple[Passage, ...]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    places: torch.Tensor
    num_reads: torch.Tensor
    targets: torch.Tensor
    candidates: torch.Tensor

    def __len__(self) -> int:
        return len(self.indices)


class Collator:
    """Makes batches of passages. `pad_token_id` is that of a masked model, None for a causal one."""

    def __init__(self, device: torch.device, pad_token_id: int | None = None) -> None:
        self._device = device
        self._pad = pad_token_id

    def batches(self, passages: Sequence[Passage], max_tokens: int) -> list[Batch]:
        """Batches of at most `max_tokens` tokens, padding counted; longest first: a lack of memory shows early."""
        sizes = [len(passage.input_ids) for passage in passages]
        return [self.collate(rows, [passages[row] for row in rows]) for rows in within_budget(sizes, max_tokens)]

    def halves(self, batch: Batch) -> tuple[Batch, Batch]:
        """The same passages in two batches, for a device that could not hold them in one."""
        middle = len(batch) // 2
        return (
            self.collate(batch.indices[:middle], batch.passages[:middle]),
            self.collate(batch.indices[middle:], batch.passages[middle:]),
        )

    def collate(self, indices: Sequence[int], passages: Sequence[Passage]) -> Batch:
        width = max(len(passage.input_ids) for passage in passages)
        most = max(len(passage.candidates) for passage in passages)
        rows = [(row, position) for row, passage in enumerate(passages) for position in passage.positions]
        return Batch(
            indices=tuple(indices),
            passages=tuple(passages),
            input_ids=self._tensor([padded(passage.input_ids, width, self._pad) for passage in passages]),
            attention_mask=None if self._pad is None else self._mask(passages, width),
            places=self._tensor(rows).T,
            num_reads=self._tensor([len(passage.positions) for passage in passages]),
            targets=self._tensor([target for passage in passages for target in passage.targets]),
            candidates=self._tensor(
                [(*passage.candidates, *[-1] * (most - len(passage.candidates))) for passage in passages]
            ),
        )

    def _mask(self, passages: Sequence[Passage], width: int) -> torch.Tensor:
        lengths = self._tensor([len(passage.input_ids) for passage in passages])
        return (torch.arange(width, device=self._device) < lengths[:, None]).long()

    def _tensor(self, values: Sequence[object]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def padded(ids: tuple[int, ...], width: int, pad: int | None) -> tuple[int, ...]:
    """Padding on the right; where any id will do it repeats the last, as transformers warns of unmasked pad tokens."""
    return ids + (ids[-1] if pad is None else pad,) * (width - len(ids))


def within_budget(sizes: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Places of sizes, largest first, in lists whose count times largest size is at most `max_tokens`, or of one."""
    order = sorted(range(len(sizes)), key=lambda place: sizes[place], reverse=True)
    start = 0
    while start < len(order):
        rows = order[start : start + max(1, max_tokens // sizes[order[start]])]
        yield rows
        start += len(rows)


_Work = TypeVar("_Work", bound=Sized)


def halved_when_full(
    work: Iterable[_Work], run: Callable[[_Work], None], halves: Callable[[_Work], tuple[_Work, _Work]]
) -> None:
    """Runs every piece of work; one that does not fit the device runs in halves.

    Raises torch.OutOfMemoryError where a piece of one row does not fit.
    """
    pending = list(work)[::-1]
    while pending:
        piece = pending.pop()
        try:
            run(piece)
        except torch.OutOfMemoryError:
            if len(piece) == 1:
                raise
            pending.extend(reversed(halves(piece)))
        else:
            continue
        torch.cuda.empty_cache()  # only here: in its handler the exception still holds what did not fit
