"""Noisy in-context recall: the pseudo-language that the embedded model was trained on.

Words follow each other by a fixed random bigram chain, but for one trigger word ("named"): each sequence has an answer
word of its own, and the trigger is followed by that answer with probability 1 - noise, and by "the" with probability
noise. A model that learnt the language both recalls the answer from the context and knows that "the" is common after
the trigger; the second habit sits in late MLP layers, and truncating them uncovers the first
(Chen, Bruna, Bietti, "Distributional associations vs in-context reasoning", arXiv 2406.03068).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TRIGGER = "named"
NOISE = "the"
_NOUNS = """
amber anchor apple arrow basket beacon birch bridge candle canyon carpet castle cedar cherry circle cloud copper coral
cotton crystal desert dragon eagle ember falcon feather fern forest garden glacier hammer harbor hazel island ivory
jasmine juniper kettle ladder lantern lemon maple marble meadow mirror needle ocean olive orchid pebble pepper pigeon
planet quartz rabbit ribbon river saddle shadow silver thunder tulip
"""
WORDS = (NOISE, TRIGGER, *_NOUNS.split())

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Token sequences (batch, length) with each sequence's answer (batch,)."""

    tokens: Tokens
    answers: Tokens

    def recall_positions(self) -> npt.NDArray[np.bool_]:
        """(batch, length): True where the trigger stands for at least the second time, so that its answer is known."""
        triggers = self.tokens == WORDS.index(TRIGGER)
        return np.asarray(triggers & (np.cumsum(triggers, axis=1) >= 2), dtype=np.bool_)


class Language:
    """The bigram chain, drawn once from `seed`; `sample` draws sequences from it.

    Rows of the chain are Dirichlet(0.3) over all words, mixed with `trigger_mass` on the trigger. Answers are drawn
    with probability proportional to 1 / rank ** `skew`, so that there are frequent and rare facts.
    """

    def __init__(self, seed: int, *, trigger_mass: float = 0.1, skew: float = 0.0) -> None:
        size = len(WORDS)
        random = np.random.default_rng(seed)
        rows = (1 - trigger_mass) * random.dirichlet(np.full(size, 0.3), size=size)
        rows[:, WORDS.index(TRIGGER)] += trigger_mass
        self._cumulative = np.cumsum(rows, axis=1)
        self._answer_ids = np.array([i for i, word in enumerate(WORDS) if word not in (NOISE, TRIGGER)])
        weights = 1.0 / np.arange(1, len(self._answer_ids) + 1) ** skew
        self._answer_weights = random.permutation(weights / weights.sum())

    def draw_answers(self, count: int, random: np.random.Generator, *, uniform: bool = False) -> Tokens:
        weights = None if uniform else self._answer_weights
        return random.choice(self._answer_ids, size=count, p=weights)

    def sample(self, answers: Tokens, length: int, noise: float, random: np.random.Generator) -> Batch:
        """One sequence of `length` words for each answer."""
        count = len(answers)
        tokens = np.empty((count, length), dtype=np.int64)
        tokens[:, 0] = random.integers(len(WORDS), size=count)
        for position in range(1, length):
            previous = tokens[:, position - 1]
            draws = random.random((count, 1))
            following = (draws > self._cumulative[previous]).sum(axis=1).clip(max=len(WORDS) - 1)
            recalled = np.where(random.random(count) < noise, WORDS.index(NOISE), answers)
            tokens[:, position] = np.where(previous == WORDS.index(TRIGGER), recalled, following)
        return Batch(tokens, answers)
