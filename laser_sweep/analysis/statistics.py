"""Statistics of paired answers: two models, the same examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Correct = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PairedGain:
    """Accuracy of one model minus another's on the same examples, in 0..1, with its standard error and p-value."""

    gain: float
    stderr: float
    p_value: float


def paired_gain(edited: Correct, untouched: Correct) -> PairedGain:
    """Compares which examples two models got right, each (examples,).

    With b examples only the edited model gets right and c only the untouched one, of n: the gain is (b - c) / n, its
    standard error sqrt((b + c) / n - ((b - c) / n)^2) / sqrt(n) (Miller, arXiv 2411.00640), and the p-value that of the
    exact McNemar test.
    """
    if edited.shape != untouched.shape:
        raise ValueError(f"{edited.shape} and {untouched.shape} answers cannot be paired")
    count = len(edited)
    wins = int((edited & ~untouched).sum())
    losses = int((untouched & ~edited).sum())
    gain = (wins - losses) / count
    variance = (wins + losses) / count - gain**2
    return PairedGain(gain, math.sqrt(max(0.0, variance) / count), mcnemar(wins, losses))


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided McNemar test: how likely a fair coin splits `wins` + `losses` tosses at least this unevenly."""
    tosses = wins + losses
    term = tail = 1  # binomial coefficients, exact in integers
    for successes in range(1, min(wins, losses) + 1):
        term = term * (tosses - successes + 1) // successes
        tail += term
    return 1.0 if 2 * tail >= 2**tosses else 2 * tail / 2**tosses
