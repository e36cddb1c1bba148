"""Length-sorted batches within a token budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import TypeVar

import torch

from laser_sweep.engine.evaluation.packing import Row


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of similar length, padded on the right.

    `input_ids` is (rows, tokens). The logits are read at `places` (2, reads): row and position of each read, passage by
    passage; `owners` (reads,) says of which passage of the batch, `num_reads` (passages,) how many each has; `targets`
    is (reads,). `indices` are the places of the passages in the order of the task, `candidates` (passages, most
    candidates) is filled up with -1.

    `attention_mask` (rows, tokens) is None behind a causal mask, where no real token looks at padding on the right.
    `branches` and `position_ids` (rows, tokens) are None where no row holds several passages.
    """

    rows: tuple[Row, ...]
    indices: tuple[int, ...]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    branches: torch.Tensor | None
    position_ids: torch.Tensor | None
    places: torch.Tensor
    owners: torch.Tensor
    num_reads: torch.Tensor
    targets: torch.Tensor
    candidates: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def branch_mask(self, dtype: torch.dtype) -> torch.Tensor | None:
        """What is added to attention scores (rows, 1, tokens, tokens): a token looks at those before it that are its
        passage's own or shared. None where rows hold one passage each."""
        if self.branches is None:
            return None
        keys, queries = self.branches[:, None, None, :], self.branches[:, None, :, None]
        seen = ((keys == 0) | (keys == queries)).tril()
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)


class Collator:
    """Makes batches of rows. `pad_token_id` is that of a masked model, None for a causal one."""

    def __init__(self, device: torch.device, pad_token_id: int | None = None) -> None:
        self._device = device
        self._pad = pad_token_id

    @property
    def masked(self) -> bool:
        return self._pad is not None

    def batches(self, rows: Sequence[Row], max_tokens: int) -> list[Batch]:
        """Batches of at most `max_tokens` tokens, padding counted; longest first: a lack of memory shows early."""
        sizes = [len(row.input_ids) for row in rows]
        return [self.collate([rows[place] for place in places]) for places in within_budget(sizes, max_tokens)]

    def halves(self, batch: Batch) -> tuple[Batch, Batch]:
        """The same rows in two batches, for a device that could not hold them in one."""
        middle = len(batch) // 2
        return self.collate(batch.rows[:middle]), self.collate(batch.rows[middle:])

    def collate(self, rows: Sequence[Row]) -> Batch:
        width = max(len(row.input_ids) for row in rows)
        passages = [passage for row in rows for passage in row.passages]
        most = max(len(passage.candidates) for passage in passages)
        places = [
            (number, row.place(part, position))
            for number, row in enumerate(rows)
            for part, passage in enumerate(row.passages)
            for position in passage.positions
        ]
        several = any(len(row.passages) > 1 for row in rows)
        return Batch(
            rows=tuple(rows),
            indices=tuple(index for row in rows for index in row.indices),
            input_ids=self._tensor([padded(row.input_ids, width, self._pad) for row in rows]),
            attention_mask=self._mask(rows, width) if self.masked else None,
            branches=self._tensor([padded(row.branches, width, 0) for row in rows]) if several else None,
            position_ids=self._tensor([padded(row.position_ids, width, 0) for row in rows]) if several else None,
            places=self._tensor(places).T,
            owners=self._tensor([owner for owner, passage in enumerate(passages) for _ in passage.positions]),
            num_reads=self._tensor([len(passage.positions) for passage in passages]),
            targets=self._tensor([target for passage in passages for target in passage.targets]),
            candidates=self._tensor([padded(passage.candidates, most, -1) for passage in passages]),
        )

    def _mask(self, rows: Sequence[Row], width: int) -> torch.Tensor:
        lengths = self._tensor([len(row.input_ids) for row in rows])
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
