"""Statistics of pairs: two models, the same examples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from laser_sweep.trial import Scores

_Z = 1.959963984540054  # normal quantile 0.975, of the two-sided 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedGain:
    """The mean score of one model minus another's on the same examples, with what it is worth.

    Scores are right or wrong, and the gain in -1..1, or returns. `wins` counts the examples on which the one scores
    more, `losses` those on which the other does; `low` and `high` are the 95 % confidence interval of the gain.
    """

    gain: float
    stderr: float
    p_value: float
    wins: int
    losses: int
    low: float
    high: float


def paired_gain(edited: Scores, untouched: Scores) -> PairedGain:
    """Compares the scores of two models, each (examples,): McNemar's test where they are right or wrong, else t.

    With b examples only the edited model gets right and c only the untouched one, of n: the gain is (b - c) / n, its
    standard error sqrt((b + c) / n - ((b - c) / n)^2) / sqrt(n) (Miller, arXiv 2411.00640), the p-value that of the
    exact McNemar test, and the interval Tango's. Of returns, p-value and interval are those of Student's t for the mean
    of the differences, whose standard error is sd / sqrt(n); a single pair says nothing: p = 1, and no bounds.
    """
    if edited.shape != untouched.shape:
        raise ValueError(f"{edited.shape} and {untouched.shape} answers cannot be paired")
    count = len(edited)
    if count == 0:
        raise ValueError("no answers: a gain needs at least one example")
    wins, losses = int((edited > untouched).sum()), int((untouched > edited).sum())
    if edited.dtype != np.bool_:
        return _mean_gain(edited.astype(np.float64) - untouched.astype(np.float64), wins, losses)
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


def _mean_gain(differences: npt.NDArray[np.float64], wins: int, losses: int) -> PairedGain:
    """The mean of paired differences (examples,) with Student's t."""
    count, gain = len(differences), float(differences.mean())
    if count == 1:
        return PairedGain(
            gain=gain, stderr=math.inf, p_value=1.0, wins=wins, losses=losses, low=-math.inf, high=math.inf
        )
    stderr = float(differences.std(ddof=1)) / math.sqrt(count)
    # Where all differences are the same number, they leave no doubt, unless that number is 0.
    p_value = 2 * float(stdtr(count - 1, -abs(gain) / stderr)) if stderr > 0 else float(gain == 0)
    width = float(stdtrit(count - 1, 0.975)) * stderr
    return PairedGain(
        gain=gain, stderr=stderr, p_value=p_value, wins=wins, losses=losses, low=gain - width, high=gain + width
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
