"""Statistics of paired answers: two models, the same examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Correct = npt.NDArray[np.bool_]

_Z = 1.959963984540054  # normal quantile 0.975, of the two-sided 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedGain:
    """Accuracy of one model minus another's on the same examples, in -1..1, with what it is worth.

    `wins` counts the examples that only the one got right, `losses` those that only the other did; `low` and `high` are
    the 95 % confidence interval of the gain.
    """

    gain: float
    stderr: float
    p_value: float
    wins: int
    losses: int
    low: float
    high: float


def paired_gain(edited: Correct, untouched: Correct) -> PairedGain:
    """Compares which examples two models got right, each (examples,).

    With b examples only the edited model gets right and c only the untouched one, of n: the gain is (b - c) / n, its
    standard error sqrt((b + c) / n - ((b - c) / n)^2) / sqrt(n) (Miller, arXiv 2411.00640), the p-value that of the
    exact McNemar test, and the interval Tango's.
    """
    if edited.shape != untouched.shape:
        raise ValueError(f"{edited.shape} and {untouched.shape} answers cannot be paired")
    count = len(edited)
    if count == 0:
        raise ValueError("no answers: a gain needs at least one example")
    wins = int((edited & ~untouched).sum())
    losses = int((untouched & ~edited).sum())
    gain = (wins - losses) / count
    variance = (wins + losses) / count - gain**2
    low, high = tango_interval(wins, losses, count)
    return PairedGain(
        gain=gain,
        stderr=math.sqrt(max(0.0, variance) / count),
        p_value=mcnemar(wins, losses),
        wins=wins,
        losses=losses,
        low=low,
        high=high,
    )


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided McNemar test: how likely a fair coin splits `wins` + `losses` tosses at least this unevenly."""
    tosses = wins + losses
    term = tail = 1  # binomial coefficients, exact in integers
    for successes in range(1, min(wins, losses) + 1):
        term = term * (tosses - successes + 1) // successes
        tail += term
    return 1.0 if 2 * tail >= 2**tosses else 2 * tail / 2**tosses


def tango_interval(wins: int, losses: int, num_examples: int) -> tuple[float, float]:
    """The 95 % score interval of a difference of paired proportions (Tango, Statistics in Medicine 17, 1998, 891-908).

    It holds the differences that a score test does not reject, so that it has a width even where no answer differs:
    a model that changed nothing on 10 examples may still be better or worse on the next.
    """
    return _lower_limit(wins, losses, num_examples), -_lower_limit(losses, wins, num_examples)


def _lower_limit(wins: int, losses: int, n: int) -> float:
    """The difference below the observed one at which the score statistic is `_Z`."""
    if losses == n:
        return -1.0

    def excess(difference: float) -> float:
        # The most likely share of losses if this were the difference of the proportions (Tango 1998).
        a = 2 * n
        b = (2 * n - wins + losses) * difference - wins - losses
        c = -losses * difference * (1 - difference)
        lost = (math.sqrt(b**2 - 4 * a * c) - b) / (2 * a)
        variance = max(0.0, 2 * lost + difference * (1 - difference))  # of one example; rounding may take it below 0
        return wins - losses - n * difference - _Z * math.sqrt(n * variance)

    # Where all examples agree, or all are wins, `excess` is also 0 at the observed difference itself; the limit is
    # further away than a billionth for any n below billions.
    return float(brentq(excess, -1.0, (wins - losses) / n - 1e-9, xtol=1e-12))
