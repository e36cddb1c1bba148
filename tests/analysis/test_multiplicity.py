"""Corrections for many trials, against statsmodels, simulation and the table in the reference notes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from statsmodels.stats.multitest import multipletests

from laser_sweep.analysis.multiplicity import (
    adjusted_p_values,
    examples_needed,
    examples_needed_for_mean,
    expected_best_of_normal,
    expected_best_of_null,
    luck,
)
from laser_sweep.analysis.statistics import PairedGain
from laser_sweep.measures import ANSWERS, EPISODES


@settings(max_examples=25)  # statsmodels takes 70 ms for each
@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_p_values_are_adjusted_as_by_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    assert adjusted_p_values(p_values) == pytest.approx(expected, abs=1e-12)


def test_p_values_adjusted_by_hand_keep_their_places() -> None:
    """The smallest counts thrice, the next twice, the largest once, and none less than a smaller one."""
    assert adjusted_p_values([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert adjusted_p_values([]).shape == (0,)


def test_what_is_no_p_value_is_said() -> None:
    with pytest.raises(ValueError, match=r"p-values 0\.1\.\.1\.5 are not within 0\.\.1"):
        adjusted_p_values([0.1, 1.5])


def rejections(num_examples: int, gain: float, discordance: float, level: float) -> float:
    """How often an exact McNemar test on so many examples rejects, of 20,000 data sets."""
    shares = [(discordance + gain) / 2, (discordance - gain) / 2, 1 - discordance]
    wins, losses, _ = np.random.default_rng(0).multinomial(num_examples, shares, size=20_000).T
    p_values = np.minimum(1, 2 * binom.cdf(np.minimum(wins, losses), wins + losses, 0.5))
    return float((p_values <= level).mean())


@pytest.mark.parametrize(("gain", "discordance"), [(0.02, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 0.3), (0.01, 0.3)])
@pytest.mark.parametrize("num_trials", [1, 10, 600])
def test_as_many_examples_as_said_have_about_the_power_asked_for(
    gain: float, discordance: float, num_trials: int
) -> None:
    count = examples_needed(gain, discordance, num_trials)
    assert rejections(count, gain, discordance, 0.05 / num_trials) == pytest.approx(0.8, abs=0.05)


def test_examples_counted_by_hand() -> None:
    """(1.95996 √0.05 + 0.84162 √0.0496)² / 0.02² = 978.75, and where every change is a gain, 13.06."""
    assert examples_needed(0.02, 0.05, 1) == 979
    assert examples_needed(0.5, 0.5, 1) == 14


def test_error_and_power_can_be_chosen() -> None:
    count = examples_needed(0.05, 0.2, 20, error=0.2, power=0.95)
    assert rejections(count, 0.05, 0.2, 0.01) == pytest.approx(0.95, abs=0.02)


def test_more_trials_need_more_examples() -> None:
    needed = [examples_needed(0.05, 0.1, trials) for trials in (1, 2, 10, 100, 1000)]
    assert needed == sorted(set(needed))


@pytest.mark.parametrize(("gain", "discordance"), [(0.0, 0.1), (-0.1, 0.2), (0.2, 0.1), (0.5, 1.5)])
def test_a_gain_that_cannot_be_is_said(gain: float, discordance: float) -> None:
    with pytest.raises(ValueError, match=f"gain={gain:g} with discordance={discordance:g}: needs 0 < gain"):
        examples_needed(gain, discordance, 10)


def test_a_winner_of_no_trials_is_said() -> None:
    with pytest.raises(ValueError, match="num_trials=0"):
        examples_needed(0.1, 0.1, 0)


@pytest.mark.parametrize(
    ("num_examples", "points"), [(100, (4.7, 7.2, 9.9)), (400, (2.2, 3.5, 4.9)), (2000, (1.0, 1.5, 2.2))]
)
def test_the_luck_of_the_best_of_600_is_that_of_the_notes(num_examples: int, points: tuple[float, ...]) -> None:
    """At 2, 5 and 10 % changed answers; the notes simulated it and rounded to a tenth of a point."""
    computed = [100 * expected_best_of_null(discordance, num_examples, 600) for discordance in (0.02, 0.05, 0.1)]
    assert computed == pytest.approx(points, abs=0.06)


@pytest.mark.parametrize(
    ("discordance", "num_examples", "num_trials"),
    [(0.05, 100, 600), (0.5, 100, 600), (0.02, 37, 9), (1.0, 20, 5), (0.3, 1, 4), (0.1, 1000, 100)],
)
def test_the_luck_of_the_best_is_that_of_simulated_trials(
    discordance: float, num_examples: int, num_trials: int
) -> None:
    random = np.random.default_rng(0)
    shares = [discordance / 2, discordance / 2, 1 - discordance]
    drawn = random.multinomial(num_examples, shares, size=(2000, num_trials))
    best = ((drawn[..., 0] - drawn[..., 1]) / num_examples).max(axis=1)
    error = best.std() / np.sqrt(len(best))
    assert expected_best_of_null(discordance, num_examples, num_trials) == pytest.approx(best.mean(), abs=4 * error)


def test_one_trial_or_no_changed_answer_gains_nothing_by_luck() -> None:
    assert expected_best_of_null(0.3, 50, 1) == pytest.approx(0, abs=1e-12)
    assert expected_best_of_null(0.0, 50, 600) == pytest.approx(0, abs=1e-12)


def test_the_luck_of_a_large_data_set_is_that_of_a_bell_curve() -> None:
    """The expected maximum of 600 standard normal draws, 3.09, times the standard error of one gain."""
    normal = np.random.default_rng(0).standard_normal((4000, 600)).max(axis=1).mean()
    assert expected_best_of_null(0.05, 200_000, 600) == pytest.approx(normal * np.sqrt(0.05 / 200_000), rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1.5, 10, 10), r"discordance=1\.5"), ((0.5, 0, 10), "num_examples=0"), ((0.5, 10, 0), "num_trials=0")],
)
def test_luck_without_trials_is_said(arguments: tuple[float, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expected_best_of_null(*arguments)


@pytest.mark.parametrize("num_trials", [1, 2, 60])
def test_the_best_of_trials_without_effect_shows_what_draws_of_a_normal_show(num_trials: int) -> None:
    draws = np.random.default_rng(0).normal(0, 3.0, (40_000, num_trials)).max(axis=1)
    assert expected_best_of_normal(3.0, num_trials) == pytest.approx(draws.mean(), abs=4 * draws.std() / 200)


def test_so_many_episodes_tell_a_gain_from_luck_as_often_as_was_asked_for() -> None:
    gain, deviation, trials = 8.0, 30.0, 60
    count = examples_needed_for_mean(gain, deviation, trials)
    random = np.random.default_rng(1)
    means = random.normal(gain, deviation / np.sqrt(count), 4000)
    limit = norm.isf(0.05 / trials / 2) * deviation / np.sqrt(count)
    assert (means > limit).mean() == pytest.approx(0.8, abs=0.03)
    fewer = random.normal(gain, deviation / np.sqrt(count - 30), 4000)
    assert (fewer > norm.isf(0.05 / trials / 2) * deviation / np.sqrt(count - 30)).mean() < 0.8


def gained(gain: float, stderr: float) -> PairedGain:
    return PairedGain(gain=gain, stderr=stderr, p_value=0.5, wins=30, losses=10, low=-1.0, high=1.0)


def test_luck_is_told_only_where_a_winner_was_picked_on_too_few() -> None:
    found = luck(gained(2.0, 4.0), 50, 60, EPISODES)
    assert found is not None
    assert found.best == pytest.approx(expected_best_of_normal(4.0, 60))
    assert found.needed == examples_needed_for_mean(2.0, 4.0 * np.sqrt(50), 60)
    assert luck(gained(40.0, 4.0), 50, 60, EPISODES) is None
    assert luck(gained(2.0, 4.0), 50, 1, EPISODES) is None
    assert luck(gained(-2.0, 4.0), 50, 60, EPISODES) is None
    of_answers = luck(gained(0.02, 0.01), 1000, 60, ANSWERS)
    assert of_answers is not None
    assert of_answers.best == pytest.approx(expected_best_of_null(0.04, 1000, 60))
