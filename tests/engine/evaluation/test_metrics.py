from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.engine.evaluation.metrics import summarise
from laser_sweep.engine.evaluation.score import Scores
from laser_sweep.engine.tasks.example import Example

ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(-50, 0, allow_subnormal=False)), min_size=1, max_size=40
)
Rows = list[tuple[str, bool, float]]


def scores(rows: Rows) -> Scores:
    return Scores(
        gold_log_prob=np.array([log_prob for _, _, log_prob in rows], dtype=np.float64),
        gold_rank=np.zeros(len(rows), dtype=np.int64),
        predicted=np.zeros(len(rows), dtype=np.int64),
        correct=np.array([correct for _, correct, _ in rows]),
    )


def examples(rows: Rows, choices: tuple[str, ...]) -> list[Example]:
    return [Example(id=str(i), prompt="p", gold=gold, choices=choices) for i, (gold, _, _) in enumerate(rows)]


@given(rows=ROWS)
def test_accuracy_and_log_loss_are_means_over_the_examples(rows: Rows) -> None:
    metrics = summarise(scores(rows), examples(rows, ()))
    count = len(rows)
    accuracy = sum(correct for _, correct, _ in rows) / count
    assert metrics.num_examples == count
    assert metrics.accuracy == pytest.approx(accuracy)
    assert metrics.accuracy_stderr == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / count))
    assert metrics.log_loss == pytest.approx(-math.fsum(log_prob for _, _, log_prob in rows) / count)


@given(rows=ROWS)
def test_with_classes_the_majority_is_the_best_constant_answer_and_balance_the_mean_recall(rows: Rows) -> None:
    metrics = summarise(scores(rows), examples(rows, ("a", "b", "c")))
    gold = Counter(label for label, _, _ in rows)
    hits = Counter(label for label, correct, _ in rows if correct)
    assert metrics.majority_accuracy == pytest.approx(max(gold.values()) / len(rows))
    assert metrics.balanced_accuracy == pytest.approx(sum(hits[label] / gold[label] for label in gold) / len(gold))


def test_a_constant_answer_gets_the_majority_and_half_the_balance() -> None:
    rows = [("true", True, -0.1)] * 7 + [("false", False, -3.0)] * 3
    metrics = summarise(scores(rows), examples(rows, ("true", "false")))
    assert (metrics.accuracy, metrics.majority_accuracy, metrics.balanced_accuracy) == (0.7, 0.7, 0.5)


@given(rows=ROWS)
def test_without_classes_there_is_neither_majority_nor_balance(rows: Rows) -> None:
    metrics = summarise(scores(rows), examples(rows, ()))
    assert metrics.majority_accuracy is None
    assert metrics.balanced_accuracy is None


@pytest.mark.parametrize("correct", [True, False])
def test_the_standard_error_vanishes_where_all_examples_agree(correct: bool) -> None:
    rows = [("a", correct, -1.0)] * 5
    assert summarise(scores(rows), examples(rows, ())).accuracy_stderr == 0


def test_figures_are_plain_numbers() -> None:
    metrics = summarise(scores([("a", True, -1.0)]), examples([("a", True, -1.0)], ("a",)))
    for name in ("accuracy", "accuracy_stderr", "log_loss", "majority_accuracy", "balanced_accuracy"):
        assert type(getattr(metrics, name)) is float
