"""Evidence that may be looked at any time, against integrals, a plain loop and simulated races."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaln

from laser_sweep.analysis.anytime import bernstein_lower, e_mcnemar

LEVEL = 0.05
LOOKS = np.array([32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384])  # examples seen; doubles


def integrated(wins: int, losses: int) -> float:
    """The e-value by its definition: a mixture of likelihood ratios over better-than-even chances of a win."""

    def ratio(theta: float) -> float:
        prior = 2 / (math.pi * math.sqrt(theta * (1 - theta)))  # Beta(1/2, 1/2), twice as high on its upper half
        return prior * (2 * theta) ** wins * (2 * (1 - theta)) ** losses

    def substituted(angle: float) -> float:  # theta = sin^2, whose prior has no poles
        theta = math.sin(angle) ** 2
        return ratio(theta) * 2 * math.sin(angle) * math.cos(angle)

    return float(quad(substituted, math.pi / 4, math.pi / 2, epsabs=0, epsrel=1e-11, limit=500)[0])


@pytest.mark.parametrize("wins", [0, 1, 2, 7, 30, 200])
@pytest.mark.parametrize("losses", [0, 1, 2, 7, 30, 200])
def test_the_e_value_is_the_integral_over_the_chances_of_a_win(wins: int, losses: int) -> None:
    assert float(e_mcnemar(wins, losses)) == pytest.approx(math.log(integrated(wins, losses)), abs=1e-8)


def test_no_examples_are_no_evidence() -> None:
    assert float(e_mcnemar(0, 0)) == pytest.approx(0, abs=1e-12)


def test_counts_of_any_shape_go_together() -> None:
    wins, losses = np.array([[3], [40]]), np.array([0, 5, 3000])
    together = e_mcnemar(wins, losses)
    assert together.shape == (2, 3)
    for row, b in enumerate([3, 40]):
        for column, c in enumerate([0, 5, 3000]):
            assert together[row, column] == float(e_mcnemar(b, c))


@pytest.mark.parametrize("losses", [900, 960, 990, 1000, 1100, 2000, 50_000])
def test_a_challenger_that_only_loses_has_a_small_e_value_and_not_none(losses: int) -> None:
    """The integral of 2/π (1 - u)^(c - 1/2) / √(1 + u) where (1 - u)^c is all but gone beyond u = 200 / c."""

    def tail(u: float) -> float:
        return 2 / math.pi * math.exp((losses - 0.5) * math.log1p(-u)) / math.sqrt(1 + u)

    expected = quad(tail, 0, 200 / losses, epsabs=0, epsrel=1e-12, limit=500)[0]
    assert float(e_mcnemar(0, losses)) == pytest.approx(math.log(expected), abs=1e-9)


def test_the_e_value_of_hundreds_of_thousands_of_pairs_is_finite_and_moves_smoothly() -> None:
    wins = np.full(2001, 150_000)
    losses = 150_000 + np.arange(-20_000, 20_001, 20)  # across the place where the tail of a Beta underflows
    log_e = e_mcnemar(wins, losses)
    assert np.isfinite(log_e).all()
    assert (np.diff(log_e) < 0).all()
    assert np.abs(np.diff(log_e, n=2)).max() < 0.02
    # Far ahead the restriction to a half matters no more, and Stirling's series gives the rest.
    n = 300_000
    beta = float(gammaln(200_000.5) + gammaln(100_000.5) - gammaln(n + 1))
    assert float(e_mcnemar(200_000, 100_000)) == pytest.approx((n + 1) * math.log(2) + beta - math.log(math.pi))


@pytest.mark.parametrize("chance", [0.5, 0.45])
@pytest.mark.parametrize("discordance", [0.02, 0.1, 0.5, 1.0])
def test_a_challenger_that_is_no_better_seldom_wins_a_race_with_many_looks(discordance: float, chance: float) -> None:
    """2,000 races that stop at the first of ten looks which likes what it sees."""
    random = np.random.default_rng(1)
    discordant = random.binomial(np.diff(LOOKS, prepend=0), discordance, size=(2000, len(LOOKS)))
    wins = random.binomial(discordant, chance)
    b, c = wins.cumsum(axis=1), (discordant - wins).cumsum(axis=1)
    stopped = (e_mcnemar(b, c) >= math.log(1 / LEVEL)).any(axis=1)
    assert stopped.mean() < LEVEL
    fixed = np.where(b > c, (b - c) ** 2 / np.maximum(1, b + c), 0) > 1.645**2  # a test made for one look, at each
    if chance == 0.5:
        assert fixed.any(axis=1).mean() > 2 * LEVEL


@pytest.mark.parametrize(
    ("discordance", "gain", "examples"), [(0.05, 0.02, 2048), (0.1, 0.05, 1024), (0.2, 0.1, 256), (0.3, 0.2, 128)]
)
def test_a_better_challenger_wins_its_race(discordance: float, gain: float, examples: int) -> None:
    """Two or three times as many examples as a test with one look needs for 80 %, which are 979, 312, 155 and 57."""
    shares = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    random = np.random.default_rng(2)
    steps = np.diff(LOOKS[examples >= LOOKS], prepend=0)
    drawn = np.stack([random.multinomial(step, shares, size=500) for step in steps])
    wins, losses, _ = drawn.cumsum(axis=0).transpose(2, 0, 1)
    assert (e_mcnemar(wins, losses) >= math.log(1 / LEVEL)).any(axis=0).mean() > 0.8


def looped(x: np.ndarray, low: float, high: float, error: float) -> list[float]:
    """The confidence sequence of Waudby-Smith & Ramdas, one value at a time."""
    mean, variance = 0.5, 0.25
    total, squares = 0.5, 0.25
    bets = gained = spent = best = 0.0
    bounds = []
    for t, value in enumerate(((x - low) / (high - low)).tolist(), start=1):
        bet = min(math.sqrt(2 * math.log(1 / error) / (variance * t * math.log(1 + t))), 0.5)
        psi = (-math.log(1 - bet) - bet) / 4
        bets += bet
        gained += bet * value
        spent += 4 * (value - mean) ** 2 * psi
        best = max(best, (gained - math.log(1 / error) - spent) / bets)
        bounds.append(low + (high - low) * best)
        total += value
        mean = total / (t + 1)
        squares += (value - mean) ** 2
        variance = squares / (t + 1)
    return bounds


@pytest.mark.parametrize(("low", "high", "error"), [(0, 1, 0.05), (-1, 1, 0.001), (-4, 0.5, 0.2), (10, 30, 0.5)])
def test_the_lower_bounds_are_those_of_the_formula(low: float, high: float, error: float) -> None:
    x = low + (high - low) * np.random.default_rng(3).beta(2, 0.7, size=300)
    assert bernstein_lower(x, low, high, error) == pytest.approx(looped(x, low, high, error), abs=1e-12)


def test_rows_are_bounded_one_by_one() -> None:
    x = np.random.default_rng(4).random((3, 50))
    together = bernstein_lower(x, 0, 1, LEVEL)
    assert together.shape == (3, 50)
    for row, bounds in zip(x, together, strict=True):
        assert bounds == pytest.approx(bernstein_lower(row, 0, 1, LEVEL), abs=1e-15)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1.0])
def test_a_constant_is_approached_from_below(constant: float) -> None:
    bounds = bernstein_lower(np.full(5000, constant), 0, 1, LEVEL)
    assert (bounds <= constant).all()
    assert (np.diff(bounds) >= 0).all()
    assert bounds[-1] == pytest.approx(constant, abs=0.01)


def test_no_values_have_no_bounds() -> None:
    assert bernstein_lower(np.empty(0), 0, 1, LEVEL).shape == (0,)


def draws(name: str) -> tuple[np.ndarray, float]:
    """2,000 rows of 2,000 values in [-1, 1], and the mean that they are drawn from."""
    random = np.random.default_rng(5)
    shape = (2000, 2000)
    if name == "rare wins":
        return (random.random(shape) < 0.01).astype(float), 0.01
    if name == "differences of answers":
        uniform = random.random(shape)
        return (uniform < 0.1).astype(float) - (uniform > 0.9), 0.0
    if name == "skewed log-losses":
        return 1 - 2 * random.beta(0.2, 2.0, shape), 1 - 2 * (0.2 / 2.2)
    pool = 2 * random.beta(0.3, 0.3, shape[1]) - 1  # a data set that every row uses up in its own order
    return random.permuted(np.broadcast_to(pool, shape), axis=1), float(pool.mean())


@pytest.mark.parametrize("name", ["rare wins", "differences of answers", "skewed log-losses", "a data set used up"])
def test_the_bounds_of_a_race_hold_all_together(name: str) -> None:
    """The best bound is the last one, so that it is the one to look at."""
    x, mean = draws(name)
    exceeded = bernstein_lower(x, -1, 1, LEVEL)[:, -1] > mean + 1e-12
    assert exceeded.mean() < LEVEL


def test_a_smaller_spread_is_bounded_more_closely() -> None:
    random = np.random.default_rng(6)
    wide = random.choice([0.0, 1.0], size=1000)
    narrow = random.choice([0.45, 0.55], size=1000)
    assert wide.mean() - bernstein_lower(wide, 0, 1, LEVEL)[-1] > 3 * (
        narrow.mean() - bernstein_lower(narrow, 0, 1, LEVEL)[-1]
    )


@pytest.mark.parametrize(
    ("low", "high", "error", "message"),
    [
        (0.0, 0.5, 0.05, r"values 0\.2\.\.0\.8 are not within low=0 and high=0\.5"),
        (1.0, 1.0, 0.05, "cannot be bounded by low=1 and high=1"),
        (0.0, 1.0, 0.0, "error=0 is no probability of being wrong"),
        (0.0, 1.0, 1.0, "error=1 is no probability of being wrong"),
    ],
)
def test_what_is_not_bounded_is_said(low: float, high: float, error: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bernstein_lower(np.array([0.2, 0.8]), low, high, error)


def test_a_value_that_is_not_a_number_is_not_bounded() -> None:
    with pytest.raises(ValueError, match="not within"):
        bernstein_lower(np.array([0.2, math.nan]), 0, 1, LEVEL)
