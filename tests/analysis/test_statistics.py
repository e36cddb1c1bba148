"""Statistics of paired answers, against scipy, numpy and simulation."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest

from laser_sweep.analysis.statistics import mcnemar, paired_gain


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


def test_a_model_gains_nothing_over_itself() -> None:
    correct = np.array([True, False, True])
    paired = paired_gain(correct, correct)
    assert (paired.gain, paired.stderr, paired.p_value) == (0.0, 0.0, 1.0)


def test_a_gain_counted_by_hand() -> None:
    """Of 8 examples the edited model alone gets 4 right, the untouched one alone 1: the gain is 3/8."""
    edited = np.array([1, 1, 1, 1, 0, 1, 0, 0], dtype=bool)
    untouched = np.array([0, 0, 0, 0, 1, 1, 0, 0], dtype=bool)
    paired = paired_gain(edited, untouched)
    assert paired.gain == 0.375
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
