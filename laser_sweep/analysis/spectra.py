"""Scores of a matrix before it is edited: what its spectrum and the loss's slope along it promise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from laser_sweep.probe import Slopes, Spectrum


class PredictedGain(NamedTuple):
    """What keeping `rank` directions of a matrix is predicted to take off the loss, in nats, and its standard error."""

    score: float
    stderr: float
    rank: int


def predicted_gain(spectrum: Spectrum, ranks: Iterable[int]) -> PredictedGain:
    """The best of the candidate ranks, to first order; of equal ones the largest, which changes the model least.

    A rank k keeps the k strongest directions, 0 <= k. One that keeps all of them is no edit, so no candidate.
    """
    gains, stderrs = _slopes(spectrum).gains, _slopes(spectrum).gains_stderr
    asked = sorted(set(ranks), reverse=True)
    if asked and asked[-1] < 0:
        raise ValueError(f"rank={asked[-1]} of {spectrum.matrix}: a rank is at least 0")
    candidates = [rank for rank in asked if rank < len(gains)]
    if not candidates:
        raise ValueError(
            f"ranks {asked} of {spectrum.matrix} remove nothing: it has {len(gains)} directions, keep fewer of them"
        )
    best = max(candidates, key=gains.__getitem__)
    return PredictedGain(float(gains[best]), float(stderrs[best]), best)


def last20(spectrum: Spectrum) -> tuple[float, float]:
    """The published score, how much the loss falls as the weakest directions shrink, and its standard error."""
    slopes = _slopes(spectrum)
    return slopes.last20, slopes.last20_stderr


def _slopes(spectrum: Spectrum) -> Slopes:
    if spectrum.slopes is None:
        raise ValueError(f"the spectrum of {spectrum.matrix} has no slopes: probe it with an evaluation")
    return spectrum.slopes
