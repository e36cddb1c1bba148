"""Evidence that may be looked at after every example: a race stops when it likes and errs no more often for it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaln

Reals = npt.NDArray[np.float64]
Counts = int | npt.NDArray[np.int64]

_MAX_BET = 0.5  # of the whole, where psi below would go to infinity; the paper advises 1/2 or 3/4
_NODES, _WEIGHTS = np.polynomial.laguerre.laggauss(16)


def e_mcnemar(wins: Counts, losses: Counts) -> Reals:
    """Logarithm of an e-value against 'the challenger is not better', from the examples that only one gets right.

    Counts of any shape, of the challenger's wins b and losses c so far; the result has that shape. Under the null
    hypothesis, a win among b + c has probability at most 1/2, and the chance that the e-value ever reaches 1 / error is
    at most `error`, however often one looks (Ville): reject when the logarithm is at least log(1 / error). As for
    `bernstein_lower`, examples must come in an order that has nothing to do with who gets them right.

    It is the likelihood ratio of a win's probability θ to 1/2, averaged over θ in (1/2, 1) with the weight of a
    Beta(1/2, 1/2) restricted to that half (a mixture as in Robbins 1970, Annals of Mathematical Statistics 41):
    e = 2 · 2^(b + c) · B(b + 1/2, c + 1/2) / B(1/2, 1/2) · P(Beta(b + 1/2, c + 1/2) > 1/2).
    """
    b, c = np.broadcast_arrays(np.asarray(wins, dtype=np.float64), np.asarray(losses, dtype=np.float64))
    above_half = betainc(c + 0.5, b + 0.5, 0.5)
    underflows = above_half < 1e-290
    log_above_half = np.log(np.where(underflows, 1.0, above_half))
    log_e = np.array((1 + b + c) * math.log(2) + betaln(b + 0.5, c + 0.5) - math.log(math.pi) + log_above_half)
    log_e[underflows] = _log_e_far_behind(b[underflows], c[underflows])
    return log_e


def _log_e_far_behind(b: Reals, c: Reals) -> Reals:
    """`e_mcnemar` where losses outnumber wins by more than floating point can say in the formula above, each (m,).

    With u = 2θ - 1 the mixture is 2/π ∫₀¹ (1 + u)^(b - 1/2) (1 - u)^(c - 1/2) du, and so far behind little more than
    2/π ∫ exp(-(c - b) u) du: Gauss-Laguerre nodes for that integral leave no error to speak of.
    """
    rate = (c - b)[:, None]
    u = _NODES / rate  # (m, 16)
    ratio = np.exp(_NODES + (b[:, None] - 0.5) * np.log1p(u) + (c[:, None] - 0.5) * np.log1p(-u))
    return np.asarray(math.log(2 / math.pi) + np.log(ratio @ _WEIGHTS / rate[:, 0]), dtype=np.float64)


def bernstein_lower(x: Reals, low: float, high: float, error: float) -> Reals:
    """Running lower bounds (..., n) on the mean of x (..., n) in [low, high], the best one so far, after each value.

    All bounds of a row hold together with probability at least 1 - error: the predictable plug-in empirical Bernstein
    confidence sequence of Waudby-Smith & Ramdas (arXiv 2010.09686, Theorem 2), of which this is the lower side, hence
    log(1 / error) and not log(2 / error).

    It assumes that every value has the same mean whatever came before it, as for examples drawn at random from a
    population: x must come in an order that has nothing to do with its values, such as that of a seeded shuffle. The
    mean is then the population's. For the mean over a finite data set, which a shuffle draws without putting back, it
    is not proven, but errs on the safe side in simulation: what is left of the set pulls the running mean back.
    """
    if not low < high:
        raise ValueError(f"a value cannot be bounded by low={low:g} and high={high:g}")
    if not 0 < error < 1:
        raise ValueError(f"error={error:g} is no probability of being wrong: use one in (0, 1), such as 0.05")
    if x.size and not (x.min() >= low and x.max() <= high):
        raise ValueError(f"values {x.min():g}..{x.max():g} are not within low={low:g} and high={high:g}")
    y = (np.asarray(x, dtype=np.float64) - low) / (high - low)
    t = np.arange(1, y.shape[-1] + 1)
    # One made-up value 1/2 with variance 1/4 goes first, so that the first bet has something to go by.
    mean = (0.5 + np.cumsum(y, axis=-1)) / (t + 1)
    variance = (0.25 + np.cumsum((y - mean) ** 2, axis=-1)) / (t + 1)
    # What the bet on a value and the spread around the mean are reckoned from must be known before the value is.
    bet = np.sqrt(2 * math.log(1 / error) / (_before(variance, 0.25) * t * np.log1p(t)))
    bet = np.minimum(bet, _MAX_BET)
    spread = (y - _before(mean, 0.5)) ** 2 * (-np.log1p(-bet) - bet)
    bound = (np.cumsum(bet * y, axis=-1) - math.log(1 / error) - np.cumsum(spread, axis=-1)) / np.cumsum(bet, axis=-1)
    bound = np.maximum.accumulate(np.maximum(bound, 0.0), axis=-1)
    return np.asarray(low + (high - low) * bound, dtype=np.float64)


def _before(values: Reals, first: float) -> Reals:
    """The values (..., n) one step later, `first` in front."""
    return np.concatenate([np.full_like(values[..., :1], first), values[..., :-1]], axis=-1)
