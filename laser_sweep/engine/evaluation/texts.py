"""Comparing what a model says with the answer: without case, and without space around it, as published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase


def plain(text: str) -> str:
    """The text as it is compared."""
    return text.strip().lower()


class TokenTexts:
    """The text of each token of a vocabulary, so that tokens that read the same can be told without decoding them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
        self._texts: list[str] = tokenizer.batch_decode([[token] for token in range(vocabulary)])
        numbers: dict[str, int] = {}
        self._numbers = np.array([numbers.setdefault(plain(text), len(numbers)) for text in self._texts])
        self._number_of: Mapping[str, int] = numbers

    def text(self, token: int) -> str:
        return self._texts[token].strip()

    def matches(self, tokens: npt.NDArray[np.int64], golds: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of the tokens (examples, n) read as the gold answer of their row."""
        wanted = np.array([self._number_of.get(plain(gold), -1) for gold in golds])
        matches: npt.NDArray[np.bool_] = self._numbers[tokens] == wanted[:, None]
        return matches


def says(text: str, gold: str) -> bool:
    """Whether the answer stands somewhere in the text."""
    return plain(gold) in plain(text)


def f1(text: str, gold: str, *, published: bool = False) -> float:
    """Harmonic mean of precision and recall over the sets of words of text and answer.

    `published` divides by max(1, precision + recall), which is smaller wherever their sum is below 1.
    """
    said, wanted = _words(text), _words(gold)
    common = len(said & wanted)
    precision, recall = common / max(1, len(said)), common / max(1, len(wanted))
    if common == 0:
        return 0.0
    return 2 * precision * recall / (max(1.0, precision + recall) if published else precision + recall)


def _words(text: str) -> set[str]:
    from nltk.tokenize import word_tokenize

    # Without the model that finds ends of sentences, which is a download: answers are no paragraphs.
    return set(word_tokenize(plain(text), preserve_line=True))
