"""What every data set becomes: examples in order, cut into val and test."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from laser_sweep.errors import RequestError
from laser_sweep.measures import ANSWERS, Measures
from laser_sweep.trial import Family, Split

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VAL_FRACTION = 0.2
MASK = "<mask>"
"""Where a masked model fills in the answer; becomes the tokenizer's own mask."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt and its right answer, from row `row` of the source, counted from 0.

    With `choices` the answer is one of them and is right when no other choice is at least as probable; without, it is
    right when the model says it. `group` names the examples that ask the same in other words, `subject` and `relation`
    what a fact is about, `frequency` how often it stands in the training data.
    """

    id: str
    prompt: str
    gold: str
    row: int = 0
    choices: tuple[str, ...] = ()
    group: str | None = None
    subject: str | None = None
    relation: str | None = None
    frequency: float | None = None


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


_Item = TypeVar("_Item", bound=_Identified)


@dataclass(frozen=True, slots=True, order=True)
class BadRow:
    """A row that cannot be asked, and why. `before` is the number of examples that come before it."""

    row: int
    reason: str
    before: int = 0

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}"


def refuse_rows(dataset: str, bad_rows: Sequence[BadRow], *, all_of_them: bool = False) -> None:
    """Raises RequestError where there are bad rows, naming the first of them."""
    if bad_rows:
        more = len(bad_rows) - _SHOWN
        way_out = "no row is left" if all_of_them else "mend the file or set dataset.on_bad_row=skip"
        raise RequestError(
            f"dataset={dataset} {'; '.join(map(str, bad_rows[:_SHOWN]))}{f'; and {more:,} more' if more > 0 else ''}; "
            f"{way_out}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How answers without choices are scored, and whether as the published code does where it is wrong.

    `next_token`: the most probable token is the answer. `generation`: the answer stands in what the model writes,
    greedily, in at most `max_new_tokens` tokens, or into five masks. `auto` is the first where every answer is one
    token of the model's vocabulary, the second elsewhere.

    With `continuations` a choice is all that the text has more than its prompt without white space at the end, as
    lm-evaluation-harness takes it, and not the fewest tokens that read as it.
    """

    answers: Literal["auto", "next_token", "generation"] = "auto"
    max_new_tokens: int = 10
    published: bool = False
    continuations: bool = False


@dataclass(frozen=True)
class AskedModel:
    """What a data set may know of the model that it is made for."""

    family: Family
    tokenizer: Callable[[], PreTrainedTokenizerBase]
    settings: Callable[[], Mapping[str, Any]] = dict
    """What stands in its config.json."""


@dataclass(frozen=True)
class Splits(Generic[_Item]):
    """Examples in the order of their source, cut into val and test."""

    name: str
    examples: tuple[_Item, ...]

    @property
    def num_val(self) -> int:
        """`val` is the first int(0.2 N) examples in order and `test` the rest, as published."""
        return int(VAL_FRACTION * len(self.examples))

    def split(self, split: Split, limit: int | None = None, seed: int | None = None) -> tuple[_Item, ...]:
        """The examples of a split, or `limit` of them drawn with `seed`, in the order of the data set.

        What a limit draws is part of what a larger one draws with the same seed.

        Raises ValueError for a limit without a seed, which would draw others each time.
        """
        rows = self.examples[: self.num_val] if split == "val" else self.examples[self.num_val :]
        if limit is None or limit >= len(rows):
            return rows
        if seed is None or limit < 1:
            raise ValueError(f"limit={limit} seed={seed}: a limit is 1 or more and needs a seed")
        return tuple(rows[place] for place in sorted(self.drawn(split, seed)[:limit]))

    def drawn(self, split: Split, seed: int) -> list[int]:
        """The places of a split's examples in the order in which limits draw them."""
        count = self.num_val if split == "val" else len(self.examples) - self.num_val
        shuffled = list(range(count))
        random.Random(seed).shuffle(shuffled)
        return shuffled


@dataclass(frozen=True)
class Task(Splits[Example]):
    """A data set ready to be asked: its examples in the order of the source, and the rows that made none."""

    measures: ClassVar[Measures] = ANSWERS

    family: Family = "causal"
    scoring: Scoring = Scoring()
    bad_rows: tuple[BadRow, ...] = ()
    on_bad_row: Literal["error", "skip"] = "error"

    @cached_property
    def revision(self) -> str:
        """16 hexadecimal characters of blake2b over all that is asked: prompts, answers, choices, and the scoring."""
        digest = hashlib.blake2b(json.dumps(astuple(self.scoring)).encode(), digest_size=8)
        for example in self.examples:
            digest.update(json.dumps([example.prompt, example.gold, example.choices]).encode())
        return digest.hexdigest()

    @cached_property
    def group_sizes(self) -> Mapping[str, int]:
        """The number of examples of each group."""
        return Counter(example.group for example in self.examples if example.group is not None)

    def skipped(self, split: Split) -> tuple[BadRow, ...]:
        """The rows of a split that made no example."""
        return tuple(bad for bad in self.bad_rows if (bad.before < self.num_val) == (split == "val"))
