"""Passages that begin alike, in one row: what they share goes through the model once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from laser_sweep.engine.tasks.tokenise import Ids, Passage

ROW_TOKENS = 256
"""A longer row saves little more, while the attention of its tokens to each other grows."""
_MIN_SAVED = 0.1
"""The share of a passage that must be saved for it to join a row."""


@dataclass(frozen=True)
class Row:
    """Passages that share their first `shared` tokens: these stand once, then what each passage has beyond them.

    `indices` are the places of the passages in the order of the task. A passage alone is a row in which all is shared.
    """

    indices: tuple[int, ...]
    passages: tuple[Passage, ...]
    shared: int

    @cached_property
    def input_ids(self) -> Ids:
        tails = (token for passage in self.passages for token in passage.input_ids[self.shared :])
        return (*self.passages[0].input_ids[: self.shared], *tails)

    @cached_property
    def starts(self) -> Ids:
        """Where in the row each passage goes on behind what is shared."""
        tails = [len(passage.input_ids) - self.shared for passage in self.passages]
        return tuple(accumulate(tails[:-1], initial=self.shared))

    def place(self, passage: int, position: int) -> int:
        """Where in the row a position of a passage stands."""
        return position if position < self.shared else self.starts[passage] + position - self.shared

    @property
    def branches(self) -> Ids:
        """For each token the number of its passage, from 1, or 0 where it is shared."""
        tails = (
            number for number, passage in enumerate(self.passages, start=1) for _ in passage.input_ids[self.shared :]
        )
        return (*(0 for _ in range(self.shared)), *tails)

    @property
    def position_ids(self) -> Ids:
        """For each token its position in its own passage."""
        tails = (place for passage in self.passages for place in range(self.shared, len(passage.input_ids)))
        return (*range(self.shared), *tails)


def alone(passages: Sequence[Passage]) -> list[Row]:
    """A row for each passage."""
    return [Row((index,), (passage,), len(passage.input_ids)) for index, passage in enumerate(passages)]


def packed(passages: Sequence[Passage]) -> list[Row]:
    """Rows of passages that begin alike, as far as that saves tokens."""
    rows: list[Row] = []
    for index in sorted(range(len(passages)), key=lambda index: passages[index].input_ids):
        single = Row((index,), (passages[index],), len(passages[index].input_ids))
        joined = _join(rows[-1], single) if rows else None
        if joined is None:
            rows.append(single)
        else:
            rows[-1] = joined
    return rows


def _join(row: Row, single: Row) -> Row | None:
    """The row with one passage more, None where that is too long or saves too little."""
    shared = _common(row.passages[0].input_ids[: row.shared], single.input_ids)
    joined = Row(row.indices + single.indices, row.passages + single.passages, shared)
    length = len(row.input_ids) + (len(row.passages) - 1) * (row.shared - shared) + len(single.input_ids) - shared
    saved = len(row.input_ids) + len(single.input_ids) - length
    return joined if length <= ROW_TOKENS and saved >= max(1.0, _MIN_SAVED * len(single.input_ids)) else None


def _common(one: Ids, other: Ids) -> int:
    """How many tokens two texts have in common from their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
