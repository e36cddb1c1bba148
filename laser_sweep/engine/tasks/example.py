"""What every data set becomes: examples in order, cut into val and test."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass
from functools import cached_property

from laser_sweep.trial import Split

VAL_FRACTION = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A prompt and its right answer.

    With `choices` the answer is one of them and is right when no other choice is at least as probable; without, it is
    right when it is the most probable of all tokens. `group` names the examples that ask the same in other words,
    `frequency` how often the fact stands in the training data.
    """

    id: str
    prompt: str
    gold: str
    choices: tuple[str, ...] = ()
    group: str | None = None
    frequency: float | None = None


@dataclass(frozen=True)
class Task:
    """A data set ready to be asked: its examples in the order of the source."""

    name: str
    examples: tuple[Example, ...]

    @cached_property
    def revision(self) -> str:
        """16 hexadecimal characters of blake2b over all that is asked: equal for equal prompts, answers and choices."""
        digest = hashlib.blake2b(digest_size=8)
        for example in self.examples:
            digest.update(json.dumps([example.prompt, example.gold, example.choices]).encode())
        return digest.hexdigest()

    @property
    def num_val(self) -> int:
        """`val` is the first int(0.2 N) examples in order and `test` the rest, as published."""
        return int(VAL_FRACTION * len(self.examples))

    def split(self, split: Split, limit: int | None = None, seed: int | None = None) -> tuple[Example, ...]:
        """The examples of a split, or `limit` of them drawn with `seed`, in the order of the data set.

        Raises ValueError for a limit without a seed, which would draw others each time.
        """
        rows = self.examples[: self.num_val] if split == "val" else self.examples[self.num_val :]
        if limit is None or limit >= len(rows):
            return rows
        if seed is None or limit < 1:
            raise ValueError(f"limit={limit} seed={seed}: a limit is 1 or more and needs a seed")
        return tuple(rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), limit)))
