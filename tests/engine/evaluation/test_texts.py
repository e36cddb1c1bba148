from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from laser_sweep.engine.evaluation.texts import TokenTexts, f1, says


@pytest.mark.parametrize(
    ("text", "gold", "said"),
    [
        (" Rome, of course", "rome", True),
        ("ROME", " Rome ", True),
        ("Romania", "Rome", False),
        ("I know", "no", True),
        ("", "Rome", False),
    ],
)
def test_an_answer_is_found_anywhere_in_a_text_whatever_its_case(text: str, gold: str, said: bool) -> None:
    assert says(text, gold) is said


@pytest.mark.parametrize(
    ("text", "gold", "default", "published"),
    [
        ("Rome", "rome", 1.0, 1.0),
        ("Oslo", "Rome", 0.0, 0.0),
        ("", "Rome", 0.0, 0.0),
        # precision 1/4, recall 1/2: 2 * 1/8 / (3/4), or over 1
        ("new york city hall", "york university", 1 / 3, 1 / 4),
        # precision 2/3, recall 1: their sum is above 1
        ("the new york", "new york", 0.8, 0.8),
        # a word that stands twice counts once
        ("yes yes yes", "yes no", 2 / 3, 2 / 3),
    ],
)
def test_f1_is_over_sets_of_words(text: str, gold: str, default: float, published: float) -> None:
    assert f1(text, gold) == pytest.approx(default)
    assert f1(text, gold, published=True) == pytest.approx(published)


def test_punctuation_is_a_word_of_its_own() -> None:
    assert f1("Rome.", "Rome") == pytest.approx(2 / 3)


@given(text=st.text(), gold=st.text())
def test_f1_is_a_fraction_and_the_published_one_is_never_larger(text: str, gold: str) -> None:
    assert 0 <= f1(text, gold, published=True) <= f1(text, gold) <= 1


def test_tokens_match_an_answer_by_their_text(tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = tokenizer.get_vocab()
    texts = TokenTexts(tokenizer, len(vocabulary) + 5)
    ids = np.array([[vocabulary["true"], vocabulary["amber"]], [vocabulary["true"], len(vocabulary) + 2]])
    assert texts.matches(ids, [" TRUE ", "amber"]).tolist() == [[True, False], [False, False]]
    assert texts.matches(ids, ["zebra", "true"]).tolist() == [[False, False], [True, False]]
    assert texts.text(vocabulary["amber"]) == "amber"
    assert texts.text(len(vocabulary) + 2) == ""
