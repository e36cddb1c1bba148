"""Scores of matrices, on spectra small enough to see the answer."""

from __future__ import annotations

import numpy as np
import pytest

from laser_sweep.analysis.spectra import last20, predicted_gain
from laser_sweep.probe import Slopes, Spectrum
from laser_sweep.trial import Matrix


def spectrum(gains: list[float] | None) -> Spectrum:
    """One of a matrix with as many directions as there are gains, each with a standard error of a tenth."""
    slopes = None
    if gains is not None:
        values = np.array(gains)
        slopes = Slopes(
            num_examples=10,
            values=np.zeros_like(values),
            values_stderr=np.zeros_like(values),
            gains=values,
            gains_stderr=np.abs(values) / 10,
            last20=1.25,
            last20_stderr=0.5,
        )
    size = 4 if gains is None else len(gains)
    return Spectrum(matrix=Matrix("fc_in", 3), shape=(size, 9), singular_values=np.ones(size), slopes=slopes)


def test_the_best_candidate_is_found_among_those_asked_for() -> None:
    """Rank 1 would gain most and is not asked for."""
    score, stderr, rank = predicted_gain(spectrum([-1.0, 5.0, 0.5, 2.0]), [0, 2, 3])
    assert (score, rank) == (2.0, 3)
    assert stderr == pytest.approx(0.2)


def test_an_edit_that_only_hurts_has_a_negative_score() -> None:
    """Keeping everything, which would score 0, is no edit."""
    assert predicted_gain(spectrum([-3.0, -1.0, -2.0]), [0, 1, 2, 3]).score == -1.0


def test_of_equal_candidates_the_largest_rank_is_taken() -> None:
    assert predicted_gain(spectrum([1.0, 1.0, 1.0, 0.0]), [2, 0, 1, 2]).rank == 2


def test_removing_everything_is_a_candidate() -> None:
    assert predicted_gain(spectrum([4.0, 1.0]), [0, 1]).rank == 0


@pytest.mark.parametrize("ranks", [[], [4], [4, 99]])
def test_ranks_that_remove_nothing_are_said(ranks: list[int]) -> None:
    with pytest.raises(ValueError, match=r"of fc_in\[3\] remove nothing: it has 4 directions"):
        predicted_gain(spectrum([1.0, 2.0, 3.0, 4.0]), ranks)


def test_a_negative_rank_is_said() -> None:
    with pytest.raises(ValueError, match=r"rank=-1 of fc_in\[3\]"):
        predicted_gain(spectrum([1.0, 2.0]), [0, -1])


def test_the_published_score_comes_with_its_error() -> None:
    assert last20(spectrum([1.0, 2.0])) == (1.25, 0.5)


def test_a_spectrum_without_slopes_has_no_scores() -> None:
    for score in (last20, lambda s: predicted_gain(s, [0])):
        with pytest.raises(ValueError, match=r"the spectrum of fc_in\[3\] has no slopes"):
            score(spectrum(None))
