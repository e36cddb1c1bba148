"""How many answers an edit changed, from what the row of a trial keeps of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtrit
from scipy.stats import binom

from laser_sweep.analysis.comparisons import measures_in
from laser_sweep.measures import EPISODES

Reals = npt.NDArray[np.float64]


def changed_answers(gain: npt.ArrayLike, p_value: npt.ArrayLike, num_examples: npt.ArrayLike) -> Reals:
    """On how many examples exactly one of two models was right, b + c, from stored gains and p-values (trials,).

    The gain gives the difference |b - c|, and for a given difference of at least 2 the p-value of the exact McNemar
    test grows with b + c: it tells which. nan where the difference is 0 or 1, whose p-value is 1 whatever b + c is.
    Where the p-value is too small for a float and stands as 0, the result is the largest that b + c can be.
    """
    arrays = (np.asarray(values, dtype=np.float64) for values in (gain, p_value, num_examples))
    gains, p_values, counts = np.broadcast_arrays(*arrays)
    changed = np.full(gains.shape, np.nan)
    difference = np.abs(np.round(gains * counts))
    known = (difference >= 2) & ~np.isnan(p_values)
    d, p = difference[known], np.maximum(p_values[known], np.finfo(np.float64).tiny)
    low, high = np.zeros_like(d), np.floor((counts[known] - d) / 2)  # of the smaller of b and c
    while (low < high).any():
        middle = np.floor((low + high) / 2)
        below = _log_p(middle, d) < np.log(p)
        low, high = np.where(below & (low < high), middle + 1, low), np.where(below, high, middle)
    # The p-value is a rounded figure: the number next to the crossing may be nearer to it.
    before = np.maximum(low - 1, 0)
    nearer = np.abs(_log_p(before, d) - np.log(p)) < np.abs(_log_p(low, d) - np.log(p))
    changed[known] = d + 2 * np.where(nearer, before, low)
    return changed


def gain_stderr(trials: pd.DataFrame) -> pd.Series[float]:
    """Standard error of the gain of each row of `trials`, in 0..1, of the mean of paired differences (Miller 2024).

    inf where at most one more example is right or wrong than without the edit: the row does not tell how many changed,
    and the test's p-value is 1 however many did. Rows without a p-value have the error of the score instead, which is
    larger than that of the gain as a rule. Of episodes it is the error with which Student's t has that p-value.
    """
    gain, p_value, count = (trials[name].astype(float) for name in ("gain", "gain_p_value", "num_examples"))
    if measures_in(trials) is EPISODES:
        quantile = pd.Series(stdtrit(count - 1, 1 - p_value / 2), index=trials.index)
        stderr = (gain.abs() / quantile).where(quantile.gt(0), np.inf)
        return stderr.where(p_value.notna(), trials["return_stderr"].astype(float))
    changed = pd.Series(changed_answers(gain, p_value, count), index=trials.index)
    stderr = ((changed / count - gain**2).clip(lower=0) / count) ** 0.5
    undecided = p_value.notna() & changed.isna()
    return stderr.mask(undecided, np.inf).where(p_value.notna(), trials["accuracy_stderr"].astype(float))


def _log_p(fewer: Reals, difference: Reals) -> Reals:
    """Logarithm of the p-value where the smaller of b and c is `fewer`."""
    return np.asarray(np.log(2) + binom.logcdf(fewer, difference + 2 * fewer, 0.5), dtype=np.float64)
