from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from laser_sweep.engine.evaluation.answers import Answers
from laser_sweep.engine.evaluation.metrics import summarise
from laser_sweep.engine.tasks.example import Example

ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(-50, 0, allow_subnormal=False)), min_size=1, max_size=40
)
Rows = list[tuple[str, bool, float]]


def answers(
    rows: Rows,
    choices: tuple[str, ...] = (),
    *,
    groups: Sequence[str | None] | None = None,
    text_ranks: Sequence[int] | None = None,
    f1: float = math.nan,
    lengths: Sequence[int] | None = None,
) -> Answers:
    """Answers to examples with these golds; a wrong one says "wrong"."""
    count = len(rows)
    return Answers(
        examples=tuple(
            Example(id=str(i), prompt="p", gold=gold, choices=choices, group=groups[i] if groups else None)
            for i, (gold, _, _) in enumerate(rows)
        ),
        one_token=text_ranks is not None,
        prediction=tuple(gold if correct else "wrong" for gold, correct, _ in rows),
        correct=np.array([correct for _, correct, _ in rows]),
        gold_log_prob=np.array([log_prob for _, _, log_prob in rows], dtype=np.float64),
        gold_length=np.array(lengths or [1] * count),
        gold_rank=np.zeros(count, dtype=np.int64),
        text_rank=np.array(text_ranks or [-1] * count),
        f1=np.full(count, f1),
    )


@given(rows=ROWS)
def test_accuracy_and_log_loss_are_means_over_the_examples(rows: Rows) -> None:
    metrics = summarise(answers(rows), {})
    count = len(rows)
    accuracy = sum(correct for _, correct, _ in rows) / count
    assert metrics.num_examples == count
    assert metrics.accuracy == pytest.approx(accuracy)
    assert metrics.accuracy_stderr == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / count))
    assert metrics.log_loss == pytest.approx(-math.fsum(log_prob for _, _, log_prob in rows) / count)


@given(rows=ROWS)
def test_with_classes_the_majority_is_the_best_constant_answer_and_balance_the_mean_recall(rows: Rows) -> None:
    metrics = summarise(answers(rows, ("a", "b", "c")), {})
    gold = Counter(label for label, _, _ in rows)
    hits = Counter(label for label, correct, _ in rows if correct)
    assert metrics.majority_accuracy == pytest.approx(max(gold.values()) / len(rows))
    assert metrics.balanced_accuracy == pytest.approx(sum(hits[label] / gold[label] for label in gold) / len(gold))


def test_a_constant_answer_gets_the_majority_and_half_the_balance() -> None:
    rows = [("true", True, -0.1)] * 7 + [("false", False, -3.0)] * 3
    metrics = summarise(answers(rows, ("true", "false")), {})
    assert (metrics.accuracy, metrics.majority_accuracy, metrics.balanced_accuracy) == (0.7, 0.7, 0.5)


@given(rows=ROWS)
def test_without_classes_there_is_neither_majority_nor_balance(rows: Rows) -> None:
    metrics = summarise(answers(rows), {})
    assert metrics.majority_accuracy is None
    assert metrics.balanced_accuracy is None


@pytest.mark.parametrize(("right", "count"), [(1, 5), (37, 100), (629, 1000)])
def test_the_standard_error_of_an_accuracy_is_that_of_statsmodels(right: int, count: int) -> None:
    metrics = summarise(answers([("a", place < right, -1.0) for place in range(count)]), {})
    low, high = proportion_confint(right, count, method="normal")
    half_width = max(high - right / count, right / count - low)  # statsmodels cuts the interval off at 0 and 1
    assert metrics.accuracy_stderr == pytest.approx(half_width / norm.ppf(0.975), abs=1e-12)


@pytest.mark.parametrize("correct", [True, False])
def test_the_standard_error_vanishes_where_all_examples_agree(correct: bool) -> None:
    rows = [("a", correct, -1.0)] * 5
    assert summarise(answers(rows), {}).accuracy_stderr == 0


def test_figures_are_plain_numbers() -> None:
    metrics = summarise(answers([("a", True, -1.0)], ("a",)), {})
    for name in ("accuracy", "accuracy_stderr", "log_loss", "majority_accuracy", "balanced_accuracy"):
        assert type(getattr(metrics, name)) is float


def test_the_loss_of_an_answer_is_divided_by_its_length() -> None:
    rows = [("a", True, -6.0), ("a", False, -1.0)]
    assert summarise(answers(rows, lengths=[3, 1]), {}).log_loss == pytest.approx(1.5)


def test_top_k_counts_texts_among_the_k_most_probable_tokens() -> None:
    metrics = summarise(answers([("a", False, -1.0)] * 5, text_ranks=[0, 4, 5, 9, -1]), {})
    assert (metrics.top1_accuracy, metrics.top5_accuracy, metrics.top10_accuracy) == (0.2, 0.4, 0.8)
    several = summarise(answers([("a", False, -1.0)] * 5), {})
    assert (several.top1_accuracy, several.top5_accuracy, several.top10_accuracy) == (None, None, None)


def test_f1_is_that_of_generated_answers() -> None:
    assert summarise(answers([("a", True, -1.0)] * 4, f1=0.25), {}).f1 == 0.25
    assert summarise(answers([("a", True, -1.0)] * 4), {}).f1 is None


def test_a_group_is_right_when_all_of_it_is_and_counts_when_all_of_it_is_there() -> None:
    rows = [("a", correct, -1.0) for correct in (True, True, True, False, True, True)]
    groups = ["g1", "g1", "g2", "g2", "g3", None]
    assert summarise(answers(rows, groups=groups), {"g1": 2, "g2": 2, "g3": 3}).group_accuracy == 0.5
    assert summarise(answers(rows, groups=groups), {"g1": 3, "g2": 3, "g3": 3}).group_accuracy is None


def test_predictions_are_counted_by_choice() -> None:
    rows = [("a", True, -1.0), ("a", True, -1.0), ("b", True, -1.0)]
    assert summarise(answers(rows, ("a", "b", "c")), {}).prediction_counts == (("a", 2), ("b", 1), ("c", 0))
    assert summarise(answers(rows), {}).prediction_counts is None


def test_choices_that_differ_from_example_to_example_are_no_classes() -> None:
    one, other = answers([("a", True, -1.0)], ("a", "b")), answers([("c", True, -1.0)], ("c", "d"))
    both = dataclasses.replace(
        answers([("a", True, -1.0), ("c", True, -1.0)]), examples=(*one.examples, *other.examples)
    )
    assert summarise(both, {}).majority_accuracy is None


def test_the_rows_that_were_left_out_are_counted() -> None:
    assert summarise(answers([("a", True, -1.0)]), {}, num_skipped=3).num_skipped == 3
