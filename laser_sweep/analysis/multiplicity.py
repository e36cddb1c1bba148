"""What picking the best of many trials does to its gain, and how many examples undo it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from laser_sweep.analysis.statistics import PairedGain
from laser_sweep.measures import ANSWERS, Measures

_NORMAL = NormalDist()


def adjusted_p_values(p_values: Sequence[float] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The p-values (trials,) of all trials looked at, each corrected for the others (Holm 1979, Scand. J. Statist. 6).

    Those that stay below 0.05 hold together: the chance that any of them is luck is at most 5 %, however the trials
    depend on each other.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"p-values {p.min():g}..{p.max():g} are not within 0..1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def examples_needed(gain: float, discordance: float, num_trials: int, error: float = 0.05, power: float = 0.8) -> int:
    """How many examples tell a gain from luck with probability `power`, when it is the best of `num_trials` trials.

    `discordance` is the share of examples on which exactly one of the two models is right; it is at least as large as
    the gain, both in 0..1. The size is that of a two-sided McNemar test at error / num_trials (Bonferroni), from
    n = (z(1 - error / 2M) √d + z(power) √(d - g²))² / g² (Connor 1987, Biometrics 43).
    """
    if not 0 < gain <= discordance <= 1:
        raise ValueError(
            f"gain={gain:g} with discordance={discordance:g}: needs 0 < gain <= discordance <= 1, since every example "
            "gained is one whose answer changed"
        )
    if num_trials < 1:
        raise ValueError(f"num_trials={num_trials}: a winner is picked from at least one trial")
    under_luck = -_NORMAL.inv_cdf(error / (2 * num_trials)) * math.sqrt(discordance)
    under_gain = _NORMAL.inv_cdf(power) * math.sqrt(discordance - gain**2)
    return math.ceil(float((under_luck + under_gain) / gain) ** 2)


def expected_best_of_null(discordance: float, num_examples: int, num_trials: int) -> float:
    """The gain, in 0..1, that the best of so many trials shows by chance when none has any effect.

    Each trial changes the correctness of a share `discordance` of the examples, to right as often as to wrong. Trials
    are taken as independent of each other; those that change the same answers are fewer than they seem, and the best
    of them shows less. Exact: the expected maximum of `num_trials` draws from the distribution of wins - losses.
    """
    if not 0 <= discordance <= 1:
        raise ValueError(f"discordance={discordance:g} is no share of examples: it lies in 0..1")
    if num_examples < 1 or num_trials < 1:
        raise ValueError(f"num_examples={num_examples} and num_trials={num_trials} must both be at least 1")
    # The characteristic function of one example's -1, 0 or 1, to the power of their number, at the 2n + 1 frequencies
    # from which the probabilities of the sums -n..n follow by a Fourier transform.
    angles = 2 * math.pi * np.arange(num_examples + 1) / (2 * num_examples + 1)
    characteristic = (1 - discordance + discordance * np.cos(angles)) ** num_examples
    probabilities = np.fft.fftshift(np.fft.irfft(characteristic, 2 * num_examples + 1))
    cumulative = np.clip(np.cumsum(probabilities), 0.0, 1.0) ** num_trials  # of the maximum
    sums = np.arange(-num_examples, num_examples + 1)
    return float(sums @ np.diff(cumulative, prepend=0.0)) / num_examples


def examples_needed_for_mean(gain: float, deviation: float, num_trials: int, error: float = 0.05) -> int:
    """`examples_needed`, with probability 0.8, of a mean gain of differences whose standard deviation is `deviation`.

    The size is that of a two-sided z-test at error / num_trials: n = ((z(1 - error / 2M) + z(0.8)) sd / g)².
    """
    if not gain > 0 or num_trials < 1:
        raise ValueError(f"gain={gain:g} of num_trials={num_trials}: needs a gain above 0 and at least one trial")
    both = -_NORMAL.inv_cdf(error / (2 * num_trials)) + _NORMAL.inv_cdf(0.8)
    return math.ceil((both * deviation / gain) ** 2)


def expected_best_of_normal(stderr: float, num_trials: int) -> float:
    """`expected_best_of_null` of mean gains, normal with this standard error: stderr · E[max of that many N(0, 1)]."""
    if num_trials < 1:
        raise ValueError(f"num_trials={num_trials}: a winner is picked from at least one trial")
    grid = np.linspace(-9.0, 9.0, 18_001)
    return stderr * float(((grid[1:] + grid[:-1]) / 2) @ np.diff(ndtr(grid) ** num_trials))


@dataclass(frozen=True, slots=True)
class Luck:
    """Too few examples for a winner: `best` is the gain that the best of so many trials without any effect would show,
    `needed` are the examples that tell the winner's gain from that."""

    best: float
    needed: int


def luck(paired: PairedGain, num_examples: int, num_trials: int, measures: Measures) -> Luck | None:
    """None where the winner of so many trials was picked on enough examples, and where it gained nothing."""
    if num_trials < 2 or num_examples < 2 or paired.gain <= 0:
        return None
    if measures is ANSWERS:
        changed = (paired.wins + paired.losses) / num_examples
        needed = examples_needed(paired.gain, changed, num_trials)
        best = expected_best_of_null(changed, num_examples, num_trials)
    else:
        needed = examples_needed_for_mean(paired.gain, paired.stderr * math.sqrt(num_examples), num_trials)
        best = expected_best_of_normal(paired.stderr, num_trials)
    return Luck(best, needed) if num_examples < needed else None
