"""Answers before and after an edit, matched by example."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.analysis.flips import OUTCOMES, flip_counts, flips, right_after, right_before

MakePredictions = Callable[..., pd.DataFrame]
words = st.sampled_from(["the", "Rome", "Oslo"])


@given(
    answers=st.lists(st.tuples(words, words, words), min_size=1, max_size=30), random=st.randoms(use_true_random=False)
)
def test_each_example_is_what_a_look_at_its_two_answers_says(
    answers: list[tuple[str, str, str]], random: object, make_predictions: MakePredictions
) -> None:
    """The order of the two tables has nothing to do with each other."""
    gold, before, after = (list(column) for column in zip(*answers, strict=True))
    untouched, edited = make_predictions(before, gold), make_predictions(after, gold)
    places = list(range(len(answers)))
    random.shuffle(places)
    table = flips(edited.iloc[places].reset_index(drop=True), untouched)
    assert list(table["example_id"]) == [str(place) for place in places]
    expected = {
        (True, True): "right in both",
        (False, True): "flipped to right",
        (True, False): "flipped to wrong",
        (False, False): "wrong in both",
    }
    for row in table.itertuples():
        right, was, now = answers[int(row.example_id)]
        assert (row.gold, row.before, row.after) == (right, was, now)
        assert row.outcome == expected[was == right, now == right]
        assert row.gold_log_prob_before == untouched["gold_log_prob"][int(row.example_id)]
        assert row.gold_log_prob_after == edited["gold_log_prob"][int(row.example_id)]
    assert list(right_before(table)) == [answers[place][1] == answers[place][0] for place in places]
    assert list(right_after(table)) == [answers[place][2] == answers[place][0] for place in places]
    counts = flip_counts(table)
    assert tuple(counts) == OUTCOMES
    assert sum(counts.values()) == len(answers)
    assert counts["flipped to wrong"] == sum(was == right != now for right, was, now in answers)


def test_what_counts_as_right_is_what_the_trial_counted_and_not_how_the_answer_reads(
    make_predictions: MakePredictions,
) -> None:
    """A choice that is only as probable as another is wrong, and generated text is right with more words in it."""
    untouched = make_predictions(["Rome", "Rome"], ["Rome", "Rome"]).assign(correct=[False, True])
    edited = make_predictions(["Rome", "Rome is a city"], ["Rome", "Rome"]).assign(correct=[True, True])
    assert list(flips(edited, untouched)["outcome"]) == ["flipped to right", "right in both"]


def test_columns_of_the_data_set_come_along(make_predictions: MakePredictions) -> None:
    own = {"group": ["g", "h"], "subject": ["Ada", "Bo"], "relation": ["born", "died"], "frequency": [3.0, 5.0]}
    table = flips(*(make_predictions(said, ["a", "b"], **own) for said in (["a", "b"], ["b", "b"])))
    assert list(table.columns) == [
        "example_id", "gold", "before", "after", "outcome", "gold_log_prob_before", "gold_log_prob_after",
        "group", "subject", "relation", "frequency",
    ]  # fmt: skip
    assert {name: list(table[name]) for name in own} == own


def test_other_examples_are_refused_with_one_of_them(make_predictions: MakePredictions) -> None:
    edited = make_predictions(["a"] * 3, ["a"] * 3, ids=["7", "8", "9"])
    untouched = make_predictions(["a"] * 2, ["a"] * 2, ids=["8", "9"])
    with pytest.raises(ValueError, match=r"not asked the same examples: 3 and 2, 2 of them the same; example 7 "):
        flips(edited, untouched)
    with pytest.raises(ValueError, match=r"2 and 3, 2 of them the same; example 7 was asked in one of them only"):
        flips(untouched, edited)


def test_another_data_set_with_the_same_numbers_is_refused(make_predictions: MakePredictions) -> None:
    with pytest.raises(ValueError, match=r"the answer to 1 is 'b' in one and 'c' in the other"):
        flips(make_predictions(["a", "b"], ["a", "b"]), make_predictions(["a", "b"], ["a", "c"]))


def test_predictions_of_two_trials_in_one_table_are_refused(make_predictions: MakePredictions) -> None:
    one = make_predictions(["a", "b"], ["a", "b"])
    both = pd.concat([one, one], ignore_index=True)
    for tables in ((both, one), (one, both)):
        with pytest.raises(ValueError, match="example 0 stands twice"):
            flips(*tables)


def test_no_predictions_are_refused(make_predictions: MakePredictions) -> None:
    one = make_predictions(["a"], ["a"])
    for tables in ((one, one.head(0)), (one.head(0), one)):
        with pytest.raises(ValueError, match="no predictions"):
            flips(*tables)
