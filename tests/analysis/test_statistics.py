"""Statistics of paired answers, against scipy, numpy and simulation."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import binomtest, norm, sem, ttest_rel
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportion_confint

from laser_sweep.analysis.statistics import mcnemar, paired_gain, tango_interval

Z = norm.ppf(0.975)


def binomial_test(wins: int, losses: int) -> float:
    """Two-sided exact test of a fair coin; no tosses are no evidence."""
    return float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


@pytest.mark.parametrize("wins", [0, 1, 2, 3, 5, 8, 20, 47, 101])
@pytest.mark.parametrize("losses", [0, 1, 2, 3, 5, 8, 20, 47, 101])
def test_mcnemar_is_the_exact_binomial_test(wins: int, losses: int) -> None:
    assert mcnemar(wins, losses) == pytest.approx(binomial_test(wins, losses), rel=1e-9)


@given(wins=st.integers(0, 400), losses=st.integers(0, 400))
def test_mcnemar_agrees_with_scipy_for_any_counts(wins: int, losses: int) -> None:
    assert mcnemar(wins, losses) == pytest.approx(binomial_test(wins, losses), rel=1e-9)


@pytest.mark.parametrize(("wins", "losses"), [(0, 1), (3, 11), (6, 6), (40, 21), (512, 400)])
def test_mcnemar_is_that_of_statsmodels(wins: int, losses: int) -> None:
    table = [[100, wins], [losses, 50]]
    assert mcnemar(wins, losses) == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize(("wins", "losses", "expected"), [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (5, 0, 1 / 16)])
def test_mcnemar_by_hand(wins: int, losses: int, expected: float) -> None:
    """Five wins and no loss: two of the 32 outcomes of five tosses are as uneven."""
    assert mcnemar(wins, losses) == expected


@given(wins=st.integers(0, 300), losses=st.integers(0, 300))
def test_mcnemar_does_not_care_which_model_comes_first(wins: int, losses: int) -> None:
    assert mcnemar(wins, losses) == mcnemar(losses, wins)
    assert 0 < mcnemar(wins, losses) <= 1


@pytest.mark.parametrize(("wins", "losses"), [(10_000, 10_000), (9_800, 10_200), (9_000, 11_000), (20_000, 0)])
def test_mcnemar_of_twenty_thousand_examples_is_finite_and_fast(wins: int, losses: int) -> None:
    started = time.process_time()
    p_value = mcnemar(wins, losses)
    assert time.process_time() - started < 1
    assert math.isfinite(p_value)
    assert p_value == pytest.approx(binomial_test(wins, losses), rel=1e-6, abs=1e-300)


answers = st.integers(1, 60).flatmap(
    lambda n: st.tuples(hnp.arrays(np.bool_, n), hnp.arrays(np.bool_, n))  # two models, the same examples
)


@given(answers=answers)
def test_a_gain_is_the_mean_difference_with_the_standard_error_of_a_mean(
    answers: tuple[np.ndarray, np.ndarray],
) -> None:
    edited, untouched = answers
    difference = edited.astype(float) - untouched.astype(float)  # -1, 0 or 1 for each example
    paired = paired_gain(edited, untouched)
    assert paired.gain == pytest.approx(difference.mean(), abs=1e-12)
    assert paired.stderr == pytest.approx(difference.std() / math.sqrt(len(difference)), abs=1e-7)
    assert paired.p_value == pytest.approx(
        binomial_test(int((difference > 0).sum()), int((difference < 0).sum())), rel=1e-9
    )


@given(answers=answers)
def test_swapping_the_models_turns_the_gain_around(answers: tuple[np.ndarray, np.ndarray]) -> None:
    there, back = paired_gain(*answers), paired_gain(*reversed(answers))
    assert there.gain == -back.gain
    assert there.stderr == back.stderr
    assert there.p_value == back.p_value
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert (there.low, there.high) == (-back.high, -back.low)


def test_a_model_gains_nothing_over_itself() -> None:
    correct = np.array([True, False, True])
    paired = paired_gain(correct, correct)
    assert (paired.gain, paired.stderr, paired.p_value) == (0.0, 0.0, 1.0)
    assert paired.low == -paired.high < 0  # three examples do not show that the next one is answered alike


def test_a_gain_counted_by_hand() -> None:
    """Of 8 examples the edited model alone gets 4 right, the untouched one alone 1: the gain is 3/8."""
    edited = np.array([1, 1, 1, 1, 0, 1, 0, 0], dtype=bool)
    untouched = np.array([0, 0, 0, 0, 1, 1, 0, 0], dtype=bool)
    paired = paired_gain(edited, untouched)
    assert (paired.gain, paired.wins, paired.losses) == (0.375, 4, 1)
    assert paired.stderr == pytest.approx(math.sqrt((5 / 8 - 9 / 64) / 8))
    assert paired.p_value == pytest.approx(12 / 32)  # at most one loss, or at most one win, in five tosses


def test_the_standard_error_is_the_spread_of_the_gain_over_many_samples() -> None:
    """Draws 4,000 data sets of 200 examples from one population and looks how much the measured gain varies."""
    random = np.random.default_rng(0)
    uniform = random.random((4000, 200))
    edited, untouched = uniform < 0.7, (uniform > 0.2) & (uniform < 0.75)  # 20 % only the one, 5 % only the other
    paired = [paired_gain(e, u) for e, u in zip(edited, untouched, strict=True)]
    spread = np.std([gain.gain for gain in paired])
    assert np.mean([gain.gain for gain in paired]) == pytest.approx(0.15, abs=0.003)
    assert np.mean([gain.stderr for gain in paired]) == pytest.approx(spread, rel=0.05)


def test_pairing_is_what_narrows_the_error() -> None:
    """Two models that agree on nearly all examples differ by less than their own standard errors suggest."""
    random = np.random.default_rng(0)
    untouched = random.random(1000) < 0.5
    edited = untouched.copy()
    edited[np.flatnonzero(~untouched)[:20]] = True
    paired = paired_gain(edited, untouched)
    unpaired = math.sqrt(2 * 0.25 / 1000)
    assert paired.gain == pytest.approx(0.02)
    assert paired.stderr < unpaired / 4
    assert paired.p_value < 1e-5


def test_answers_to_different_numbers_of_examples_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\) answers cannot be paired"):
        paired_gain(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


def test_no_answers_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="no answers: a gain needs at least one example"):
        paired_gain(np.ones(0, dtype=bool), np.ones(0, dtype=bool))


def score(difference: float, wins: int, losses: int, count: int) -> float:
    """Tango's statistic from its definition: the share of losses maximises the likelihood given the difference."""

    def unlikelihood(lost: float) -> float:
        same = max(0.0, 1 - 2 * lost - difference)
        return -(xlogy(wins, lost + difference) + xlogy(losses, lost) + xlogy(count - wins - losses, same))

    bounds = max(0.0, -difference), (1 - difference) / 2
    found = minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-13})
    lost = min([*bounds, found.x], key=unlikelihood)
    return float((wins - losses - count * difference) / math.sqrt(count * (2 * lost + difference * (1 - difference))))


@pytest.mark.parametrize(
    ("wins", "losses", "count"),
    [(1, 0, 1), (0, 0, 10), (3, 0, 10), (10, 0, 10), (6, 4, 10), (7, 1, 21), (40, 20, 160), (30, 30, 2000)],
)
def test_the_interval_ends_where_a_score_test_rejects(wins: int, losses: int, count: int) -> None:
    low, high = tango_interval(wins, losses, count)
    ends = [(low, Z)] if low > -1 else []
    ends += [(high, -Z)] if high < 1 else []
    assert ends
    for end, expected in ends:
        assert score(end, wins, losses, count) == pytest.approx(expected, abs=1e-4)


def test_the_interval_of_a_published_example() -> None:
    """Bentur et al. 2009 as worked out by Fagerland, Lydersen & Laake, Statistics in Medicine 33, 2014."""
    assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("count", [1, 2, 10, 500, 100_000])
def test_the_interval_of_equal_answers_is_wilsons_of_no_success(count: int) -> None:
    highest = proportion_confint(0, count, method="wilson")[1]
    assert tango_interval(0, 0, count) == pytest.approx((-highest, highest), abs=1e-9)


@pytest.mark.parametrize(("wins", "count"), [(0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (40, 100), (100_000, 100_000)])
def test_the_interval_of_all_different_answers_is_wilsons(wins: int, count: int) -> None:
    low, high = proportion_confint(wins, count, method="wilson")  # of the share of wins, (gain + 1) / 2
    assert tango_interval(wins, count - wins, count) == pytest.approx((2 * low - 1, 2 * high - 1), abs=1e-9)


counts = st.integers(1, 10**6).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


@given(counts=counts)
def test_the_interval_holds_the_gain_and_stays_within_bounds(counts: tuple[int, int, int]) -> None:
    wins, losses, count = counts
    low, high = tango_interval(wins, losses, count)
    assert -1 <= low <= (wins - losses) / count <= high <= 1
    assert low < high


@pytest.mark.parametrize(
    ("count", "discordance", "gain"),
    [
        (1, 0.5, 0.1),
        (10, 0.1, 0.0),
        (10, 0.5, 0.2),
        (100, 0.02, 0.01),
        (100, 0.05, 0.0),
        (100, 0.1, 0.09),
        (100, 0.5, 0.25),
        (1000, 0.02, 0.018),
        (1000, 0.1, 0.05),
    ],
)
def test_nineteen_of_twenty_intervals_hold_the_true_gain(count: int, discordance: float, gain: float) -> None:
    """More of them where hardly any answer differs: few different outcomes cannot be cut at exactly 5 %."""
    shares = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    drawn = np.random.default_rng(0).multinomial(count, shares, size=20_000)
    outcomes, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    intervals = [tango_interval(int(wins), int(losses), count) for wins, losses in outcomes]
    covered = times[[low <= gain <= high for low, high in intervals]].sum() / times.sum()
    assert covered > 0.94
    if count * discordance >= 10:
        assert covered < 0.965


@pytest.mark.parametrize("count", [2, 3, 50, 200])
@pytest.mark.parametrize("shift", [0.0, 0.3, 40.0])
def test_the_gain_of_returns_is_that_of_a_paired_t_test(count: int, shift: float) -> None:
    random = np.random.default_rng([count, int(10 * shift)])
    untouched = random.normal(-90, 30, count)
    edited = untouched + random.normal(shift, 12, count)
    found, expected = paired_gain(edited, untouched), ttest_rel(edited, untouched)
    interval = expected.confidence_interval(0.95)
    assert found.gain == pytest.approx(np.mean(edited - untouched), rel=1e-12)
    assert found.stderr == pytest.approx(sem(edited - untouched), rel=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert (found.wins, found.losses) == (int((edited > untouched).sum()), int((edited < untouched).sum()))


def test_the_interval_of_a_mean_gain_holds_the_true_gain_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    pairs = [(random.exponential(50, 50) + 5.0, random.exponential(50, 50)) for _ in range(600)]
    held = [found.low <= 5.0 <= found.high for found in (paired_gain(*pair) for pair in pairs)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_returns_that_no_edit_changed_are_no_gain() -> None:
    returns = np.array([-80.0, -91.5, -500.0])
    found = paired_gain(returns, returns.copy())
    assert (found.gain, found.stderr, found.p_value, found.low, found.high) == (0.0, 0.0, 1.0, 0.0, 0.0)
    assert (found.wins, found.losses) == (0, 0)


def test_one_episode_shows_nothing() -> None:
    found = paired_gain(np.array([5.0]), np.array([1.0]))
    assert (found.gain, found.p_value, found.low, found.high) == (4.0, 1.0, -np.inf, np.inf)
