"""Scores of single examples -> figures of merit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from laser_sweep.engine.evaluation.score import Scores
from laser_sweep.engine.tasks.example import Example
from laser_sweep.trial import Metrics


def summarise(scores: Scores, examples: Sequence[Example]) -> Metrics:
    """Means over the examples; the standard error of the accuracy is the binomial sqrt(p (1 - p) / n)."""
    count = len(examples)
    accuracy = float(scores.correct.mean())
    classes = all(example.choices for example in examples)
    gold = np.array([example.gold for example in examples])
    labels, counts = np.unique(gold, return_counts=True)
    return Metrics(
        num_examples=count,
        accuracy=accuracy,
        accuracy_stderr=math.sqrt(accuracy * (1 - accuracy) / count),
        log_loss=float(-scores.gold_log_prob.mean()),  # an answer is one token, so its length is 1
        majority_accuracy=float(counts.max() / count) if classes else None,
        balanced_accuracy=float(np.mean([scores.correct[gold == label].mean() for label in labels]))
        if classes
        else None,
    )
