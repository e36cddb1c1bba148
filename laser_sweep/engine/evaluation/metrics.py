"""Answers to single examples -> figures of merit."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import TypedDict

import numpy as np

from laser_sweep.engine.evaluation.answers import Answers
from laser_sweep.trial import Metrics


def summarise(answers: Answers, group_sizes: Mapping[str, int], num_skipped: int = 0) -> Metrics:
    """Means over the examples; the standard error of the accuracy is the binomial sqrt(p (1 - p) / n).

    `group_sizes` says how many examples a group has in the whole data set.
    """
    count = len(answers.examples)
    accuracy = float(answers.correct.mean())
    generated = ~np.isnan(answers.f1)
    return Metrics(
        num_examples=count,
        num_skipped=num_skipped,
        accuracy=accuracy,
        accuracy_stderr=math.sqrt(accuracy * (1 - accuracy) / count),
        log_loss=float(np.mean(-answers.gold_log_prob / answers.gold_length)),
        top1_accuracy=_within(answers, 1),
        top5_accuracy=_within(answers, 5),
        top10_accuracy=_within(answers, 10),
        f1=float(answers.f1[generated].mean()) if generated.any() else None,
        group_accuracy=_group_accuracy(answers, group_sizes),
        **_of_classes(answers),
    )


def _within(answers: Answers, k: int) -> float | None:
    """How often the gold text is that of one of the k most probable tokens."""
    if not answers.one_token:
        return None
    return float(((answers.text_rank >= 0) & (answers.text_rank < k)).mean())


def _group_accuracy(answers: Answers, group_sizes: Mapping[str, int]) -> float | None:
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    for example, correct in zip(answers.examples, answers.correct.tolist(), strict=True):
        if example.group is not None:
            groups[example.group].append(correct)
    whole = [all(correct) for group, correct in groups.items() if len(correct) == group_sizes[group]]
    return float(np.mean(whole)) if whole else None


class _OfClasses(TypedDict, total=False):
    majority_accuracy: float
    balanced_accuracy: float
    prediction_counts: tuple[tuple[str, int], ...]


def _of_classes(answers: Answers) -> _OfClasses:
    """What has a meaning only where all examples have the same choices."""
    choices = {example.choices for example in answers.examples}
    if choices == {()} or len(choices) > 1:
        return {}
    gold = np.array([example.gold for example in answers.examples])
    labels, counts = np.unique(gold, return_counts=True)
    said = Counter(answers.prediction)
    return {
        "majority_accuracy": float(counts.max() / len(gold)),
        "balanced_accuracy": float(np.mean([answers.correct[gold == label].mean() for label in labels])),
        "prediction_counts": tuple((choice, said[choice]) for choice in dict.fromkeys(*choices)),
    }
