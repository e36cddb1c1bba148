"""The pseudo-language of the embedded model."""

from __future__ import annotations

import numpy as np
import pytest

from laser_sweep.demo.language import NOISE, TRIGGER, WORDS, Language
from laser_sweep.demo.train import Recipe


def test_a_training_word_after_the_trigger_is_noise_half_of_the_time() -> None:
    """What the examples ask is not what was trained on: they are clean, so that recall alone is measured."""
    recipe = Recipe()
    language = Language(recipe.seed, skew=recipe.answer_skew)
    random = np.random.default_rng(7)
    answers = language.draw_answers(300, random)
    noisy = language.sample(answers, recipe.length, recipe.noise, random)
    following = noisy.tokens[:, 1:][noisy.tokens[:, :-1] == WORDS.index(TRIGGER)]
    assert (following == WORDS.index(NOISE)).mean() == pytest.approx(recipe.noise, abs=0.03)
    owners = np.repeat(answers, (noisy.tokens[:, :-1] == WORDS.index(TRIGGER)).sum(axis=1))
    assert set(following[following != owners]) == {WORDS.index(NOISE)}
    positions = noisy.recall_positions()
    for row, marked in zip(noisy.tokens, positions, strict=True):
        triggers = np.flatnonzero(row == WORDS.index(TRIGGER))
        assert list(np.flatnonzero(marked)) == list(triggers[1:])
