"""Whether a result says what was expected of every example, and of all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import mean

import pytest

from laser_sweep.trial import TrialResult

from .answers import CLOSE, Figures
from .prompts import Asked, Kind


def check_result(
    result: TrialResult, questions: Sequence[Asked], figures: Sequence[Figures], kind: Kind, whole_groups: set[str]
) -> None:
    """`whole_groups` are those whose questions are all among these."""
    check_predictions(result, questions, figures)
    check_metrics(result, questions, figures, kind, whole_groups)


def check_predictions(result: TrialResult, questions: Sequence[Asked], figures: Sequence[Figures]) -> None:
    assert result.status == "done", result.error
    said = result.predictions
    assert said is not None
    assert list(said.example_id) == [asked.id for asked in questions]
    assert list(said.gold) == [asked.gold for asked in questions]
    for tag in ("group", "subject", "relation"):
        assert list(getattr(said, tag)) == [getattr(asked, tag) for asked in questions]
    assert list(said.prediction) == [one.prediction for one in figures]
    assert said.correct.tolist() == [one.correct for one in figures]
    assert said.gold_log_prob == pytest.approx([one.gold_log_prob for one in figures], abs=CLOSE, rel=0)
    assert said.gold_length.tolist() == [one.gold_length for one in figures]
    for rank, one in zip(said.gold_rank.tolist(), figures, strict=True):
        assert one.gold_rank[0] <= rank <= one.gold_rank[1]
    assert said.text_rank.tolist() == [one.text_rank for one in figures]
    f1 = [float("nan") if one.f1 is None else one.f1 for one in figures]
    assert said.f1 == pytest.approx(f1, abs=1e-9, rel=0, nan_ok=True)


def check_metrics(
    result: TrialResult, questions: Sequence[Asked], figures: Sequence[Figures], kind: Kind, whole_groups: set[str]
) -> None:
    metrics = result.measured()
    accuracy = mean(one.correct for one in figures)
    assert metrics.num_examples == len(questions)
    assert metrics.num_skipped == 0
    assert metrics.accuracy == pytest.approx(accuracy)
    assert metrics.accuracy_stderr == pytest.approx((accuracy * (1 - accuracy) / len(questions)) ** 0.5)
    assert metrics.log_loss == pytest.approx(mean(-one.gold_log_prob / one.gold_length for one in figures), abs=CLOSE)
    for k in (1, 5, 10):
        within = mean(0 <= one.text_rank < k for one in figures) if kind == "token" else None
        assert getattr(metrics, f"top{k}_accuracy") == pytest.approx(within)
    scores = [one.f1 for one in figures if one.f1 is not None]
    assert metrics.f1 == pytest.approx(mean(scores) if scores else None)
    right = [
        all(one.correct for asked, one in zip(questions, figures, strict=True) if asked.group == group)
        for group in whole_groups
    ]
    assert metrics.group_accuracy == pytest.approx(mean(right) if right else None)
    _check_classes(result, questions, figures)


def _check_classes(result: TrialResult, questions: Sequence[Asked], figures: Sequence[Figures]) -> None:
    metrics = result.measured()
    choices = questions[0].choices
    if not choices:
        assert (metrics.majority_accuracy, metrics.balanced_accuracy, metrics.prediction_counts) == (None, None, None)
        return
    golds = [asked.gold for asked in questions]
    recalls = [
        mean(one.correct for gold, one in zip(golds, figures, strict=True) if gold == label) for label in set(golds)
    ]
    said = Counter(one.prediction for one in figures)
    assert metrics.majority_accuracy == pytest.approx(max(Counter(golds).values()) / len(golds))
    assert metrics.balanced_accuracy == pytest.approx(mean(recalls))
    assert metrics.prediction_counts == tuple((choice, said[choice]) for choice in choices)
