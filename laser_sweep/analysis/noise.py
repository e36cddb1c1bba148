"""How much of a spectrum a matrix of pure noise would have too, by random-matrix theory and without data.

A matrix of `shape` (m, n) with independent entries of variance σ² has singular values up to σ (√m + √n), distributed as
Marchenko & Pastur (1967) say with β = min(m, n) / max(m, n). σ is read off the median, which a few strong directions do
not move. (An interquartile range instead of the median, as elsewhere, is not a measure of σ: of pure noise of shape
1 x 4 it keeps everything.)
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Curve = npt.NDArray[np.float64]


def marchenko_pastur_median(beta: float) -> float:
    """Median of the Marchenko-Pastur law of aspect ratio 0 < beta <= 1: of singular values squared / (σ² max(m, n)).

    With x = 1 + β + 2 √β cos φ the share of the law above x is 2/π ∫₀^φ sin² t / (1 + β + 2 √β cos t) dt, which has an
    elementary antiderivative.
    """
    if not 0 < beta <= 1:
        raise ValueError(f"beta={beta:g} is not the short side of a matrix over the long one: it lies in (0, 1]")
    middle, half_width = 1 + beta, 2 * math.sqrt(beta)
    slant = (1 - math.sqrt(beta)) / (1 + math.sqrt(beta))

    def share_above(angle: float) -> float:
        arc = 2 * (1 - beta) * math.atan(slant * math.tan(angle / 2))
        return 2 / math.pi * (middle * angle - half_width * math.sin(angle) - arc) / half_width**2

    angle = float(brentq(lambda phi: share_above(phi) - 0.5, 0.0, math.pi, xtol=1e-14))
    return middle + half_width * math.cos(angle)


def noise_sigma(singular_values: Curve, shape: tuple[int, int]) -> float:
    """Standard deviation of the noise in the entries of a matrix, from all of its singular values (min(shape),)."""
    return _median(singular_values, shape) / math.sqrt(max(shape) * marchenko_pastur_median(_aspect(shape)))


def marchenko_pastur_edge(singular_values: Curve, shape: tuple[int, int]) -> int:
    """How many singular values are above the largest that noise has, σ (√m + √n)."""
    edge = noise_sigma(singular_values, shape) * (math.sqrt(shape[0]) + math.sqrt(shape[1]))
    return int((singular_values > edge).sum())


def gavish_donoho_rank(singular_values: Curve, shape: tuple[int, int]) -> int:
    """How many singular values to keep for the least squared error, where the noise is not known.

    Those above ω(β) times the median, ω(β) = λ(β) / √μ_β with μ_β the Marchenko-Pastur median and
    λ(β) = √(2 (β + 1) + 8 β / ((β + 1) + √(β² + 14 β + 1))) (Gavish & Donoho, IEEE Trans. Inf. Theory 60,
    2014). Higher than the edge: a direction hardly above the noise is more noise than signal.
    """
    beta = _aspect(shape)
    factor = math.sqrt(2 * (beta + 1) + 8 * beta / (beta + 1 + math.sqrt(beta**2 + 14 * beta + 1)))
    threshold = factor / math.sqrt(marchenko_pastur_median(beta)) * _median(singular_values, shape)
    return int((singular_values > threshold).sum())


def _aspect(shape: tuple[int, int]) -> float:
    return min(shape) / max(shape)


def _median(singular_values: Curve, shape: tuple[int, int]) -> float:
    if singular_values.shape != (min(shape),):
        raise ValueError(
            f"{singular_values.shape} singular values of a matrix of shape {shape}: the noise shows only in all "
            f"{min(shape)} of them"
        )
    return float(np.median(singular_values))
