"""Noise edges, against matrices of known noise, an integral over the law itself, and published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from laser_sweep.analysis.noise import (
    gavish_donoho_rank,
    marchenko_pastur_edge,
    marchenko_pastur_median,
    noise_sigma,
)

SHAPES = [(800, 800), (500, 1000), (1000, 500), (500, 2000)]
SIGMA = 0.02


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return SIGMA * np.random.default_rng(seed).standard_normal(shape)


def spectrum(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.svd(matrix, compute_uv=False)


@pytest.mark.parametrize("beta", [1.0, 0.9, 0.5, 0.25, 0.1, 0.001])
def test_half_of_the_law_is_below_its_median(beta: float) -> None:
    bottom, top = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2
    median = marchenko_pastur_median(beta)

    def density_without_roots(x: float) -> float:
        return 1 / (2 * math.pi * beta * x) if bottom else 1 / (2 * math.pi * beta)

    # quad takes the square roots at the ends as weights; at beta = 1 the law goes like 1 / √x at 0.
    left = (0.5, 0) if bottom else (-0.5, 0)
    below = quad(
        lambda x: density_without_roots(x) * math.sqrt(top - x), bottom, median, weight="alg", wvar=left, epsabs=1e-12
    )[0]
    assert below == pytest.approx(0.5, abs=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_median_is_that_of_simulated_noise(shape: tuple[int, int]) -> None:
    eigenvalues = spectrum(noise(shape)) ** 2 / (SIGMA**2 * max(shape))
    assert marchenko_pastur_median(min(shape) / max(shape)) == pytest.approx(np.median(eigenvalues), rel=0.01)


def test_the_median_of_a_very_long_matrix_is_one() -> None:
    assert marchenko_pastur_median(1e-9) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("beta", [0.0, -1.0, 1.5])
def test_an_aspect_that_cannot_be_is_said(beta: float) -> None:
    with pytest.raises(ValueError, match=f"beta={beta:g} is not the short side"):
        marchenko_pastur_median(beta)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_of_pure_noise_is_kept(shape: tuple[int, int]) -> None:
    """The largest of the singular values is as often as not a hair above the edge, seldom two of them."""
    spectra = [spectrum(noise(shape, seed)) for seed in range(3)]
    assert sum(marchenko_pastur_edge(s, shape) for s in spectra) <= 0.001 * sum(map(len, spectra))
    assert [gavish_donoho_rank(s, shape) for s in spectra] == [0, 0, 0]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_size_of_noise_is_read_off_its_spectrum(shape: tuple[int, int]) -> None:
    assert noise_sigma(spectrum(noise(shape)), shape) == pytest.approx(SIGMA, rel=0.01)


@pytest.mark.parametrize("rank", [1, 7, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_planted_directions_are_counted(shape: tuple[int, int], rank: int) -> None:
    """Directions of 1.5 to 4 times the edge in noise, which hardly change what the noise is taken for."""
    random = np.random.default_rng(1)
    u = np.linalg.qr(random.standard_normal((shape[0], rank)))[0]
    v = np.linalg.qr(random.standard_normal((shape[1], rank)))[0]
    edge = SIGMA * (math.sqrt(shape[0]) + math.sqrt(shape[1]))
    singular_values = spectrum((u * np.linspace(1.5, 4, rank) * edge) @ v.T + noise(shape, seed=1))
    assert marchenko_pastur_edge(singular_values, shape) == rank
    assert gavish_donoho_rank(singular_values, shape) == rank
    assert noise_sigma(singular_values, shape) == pytest.approx(SIGMA, rel=0.05)


@pytest.mark.parametrize("beta", np.linspace(0.05, 1, 20))
def test_the_threshold_is_near_the_published_approximation(beta: float) -> None:
    """ω(β) is 0.56 β³ - 0.95 β² + 1.82 β + 1.43 up to 0.02 (Gavish & Donoho 2014, equation 5), and ω(1) = 2.858."""
    columns = 2001
    shape = (round(beta * columns), columns)
    omega = 0.56 * beta**3 - 0.95 * beta**2 + 1.82 * beta + 1.43
    for above, kept in ((0.025, 1), (-0.025, 0)):
        singular_values = np.ones(shape[0])  # the median is 1
        singular_values[0] = omega + above
        assert gavish_donoho_rank(singular_values, shape) == kept


def test_the_threshold_of_a_square_matrix_is_the_published_one() -> None:
    singular_values = np.array([2.859, 2.857, *np.ones(9)])  # 2.858 times the median
    assert gavish_donoho_rank(singular_values, (11, 11)) == 1


def test_the_denoised_matrix_is_nearest_to_the_signal_at_the_gavish_donoho_rank() -> None:
    random = np.random.default_rng(2)
    shape = (400, 800)
    u = np.linalg.qr(random.standard_normal((400, 12)))[0]
    v = np.linalg.qr(random.standard_normal((800, 12)))[0]
    edge = SIGMA * (math.sqrt(400) + math.sqrt(800))
    signal = (u * np.linspace(0.2, 2.5, 12) * edge) @ v.T  # the weakest drown
    left, singular_values, right = np.linalg.svd(signal + noise(shape, seed=3), full_matrices=False)
    errors = [np.linalg.norm((left[:, :k] * singular_values[:k]) @ right[:k] - signal) for k in range(60)]
    chosen = gavish_donoho_rank(singular_values, shape)
    assert abs(chosen - int(np.argmin(errors))) <= 1
    assert errors[chosen] <= 1.001 * min(errors)
    assert marchenko_pastur_edge(singular_values, shape) > chosen


def test_a_zero_matrix_has_neither_noise_nor_directions() -> None:
    nothing = np.zeros(40)
    assert noise_sigma(nothing, (40, 90)) == 0
    assert marchenko_pastur_edge(nothing, (40, 90)) == 0
    assert gavish_donoho_rank(nothing, (40, 90)) == 0


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (1, 1)])
def test_a_single_row_is_all_noise(shape: tuple[int, int]) -> None:
    """Its one singular value is the median too."""
    length = np.array([SIGMA * math.sqrt(500)])
    assert marchenko_pastur_edge(length, shape) == 0
    assert gavish_donoho_rank(length, shape) == 0
    if shape != (1, 1):
        assert noise_sigma(length, shape) == pytest.approx(SIGMA, rel=0.01)


def test_part_of_a_spectrum_is_not_enough() -> None:
    with pytest.raises(ValueError, match=r"\(20,\) singular values of a matrix of shape \(40, 90\).*all 40 of them"):
        noise_sigma(np.ones(20), (40, 90))
