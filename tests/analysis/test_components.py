"""What each part of an edited matrix says, from predictions alone."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.analysis.components import Echo, common_answers, components, echo, shortened
from laser_sweep.analysis.flips import OUTCOMES

MakePredictions = Callable[..., pd.DataFrame]

# (gold, untouched, low-rank part, removed part)
ANSWERS = [
    ("Rome", "Rome", "Rome", "the"),
    ("Oslo", "the", "Oslo", "the"),
    ("Lima", "the", "a", "the"),
    ("Bonn", "of", "Bonn", "Paris"),
    ("Kyiv", "Kyiv", "the", "Kyiv"),
    ("Doha", "of", "Doha", "Doha"),
    ("Cork", "of", "Cork", "of"),
]
PROMPTS = {str(number): f"what is {number}?" for number in range(len(ANSWERS))}


@pytest.fixture
def parts(make_predictions: MakePredictions) -> list[pd.DataFrame]:
    """Those of the untouched model, of the part that is kept and of the removed one, each in an order of its own."""
    gold, *said = (list(column) for column in zip(*ANSWERS, strict=True))
    orders = [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [3, 1, 4, 0, 5, 2, 6]]
    return [
        make_predictions(answers, gold).iloc[order].reset_index(drop=True)
        for answers, order in zip(said, orders, strict=True)
    ]


def test_each_row_has_the_answers_of_one_example(parts: list[pd.DataFrame]) -> None:
    table = components(*parts, PROMPTS)
    assert sorted(table["example_id"]) == sorted(PROMPTS)
    for row in table.itertuples():
        assert (row.gold, row.untouched, row.low_rank, row.removed) == ANSWERS[int(row.example_id)]
        assert row.removed_right == (row.removed == row.gold)
        assert row.prompt == PROMPTS[row.example_id]


def test_what_flipped_to_right_comes_first_and_within_an_outcome_the_order_is_that_of_the_data_set(
    parts: list[pd.DataFrame],
) -> None:
    parts[1] = parts[1].iloc[::-1].reset_index(drop=True)
    table = components(*parts, PROMPTS)
    assert list(table["example_id"]) == ["1", "3", "5", "6", "4", "0", "2"]
    assert list(dict.fromkeys(table["outcome"])) == list(OUTCOMES)


def test_the_echo_counts_what_the_removed_part_says_to_those_that_flipped_to_right(parts: list[pd.DataFrame]) -> None:
    """Oslo and Cork as wrongly as the whole model, Bonn in a way of its own, Doha right."""
    assert echo(components(*parts, PROMPTS)) == Echo(count=4, same=2, right=1, other=1)


def test_the_echo_of_no_flips_is_nothing(parts: list[pd.DataFrame]) -> None:
    assert echo(components(parts[0], parts[0], parts[2], PROMPTS)) == Echo(count=0, same=0, right=0, other=0)


def test_an_example_without_a_prompt_is_said(parts: list[pd.DataFrame]) -> None:
    with pytest.raises(ValueError, match="7 examples have no prompt, the first of them 6"):
        components(*parts, {})


def test_trials_of_other_examples_are_refused(parts: list[pd.DataFrame]) -> None:
    with pytest.raises(ValueError, match="not asked the same examples"):
        components(parts[0], parts[1], parts[2].head(3), PROMPTS)


def test_common_answers_are_counted_and_equals_come_in_the_order_of_the_alphabet() -> None:
    answers = pd.Series(["the", "b", "a", "the", "b", "a", "the", "c"])
    assert common_answers(answers, 3) == [("the", 3), ("a", 2), ("b", 2)]
    assert common_answers(answers.head(1)) == [("the", 1)]


@given(words=st.lists(st.text("ab", min_size=1, max_size=12), max_size=20), width=st.integers(12, 80))
def test_a_text_is_cut_in_the_middle_between_words_and_fits(words: list[str], width: int) -> None:
    text = " \n".join(words)
    short = shortened(text, width)
    line = " ".join(words)
    assert len(short) <= width
    if len(line) <= width:
        assert short == line
        return
    head, gap, tail = short.partition(" … ")
    assert gap
    assert line.startswith(head)
    assert line.endswith(tail)
    assert len(short) >= width - 2 * 12  # no more is left out than the words that the cuts would go through
    if all(len(word) < (width - 3) // 3 for word in words):
        assert {*head.split(), *tail.split()} <= set(words)


def test_the_end_of_a_prompt_is_kept_since_it_says_what_is_asked() -> None:
    prompt = "Consider the following claim: Colin Kaepernick became a quarterback. Is this claim true or false?"
    assert shortened(prompt, 50) == "Consider the … Is this claim true or false?"
