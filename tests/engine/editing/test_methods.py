from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from laser_sweep.engine.editing.factor import Factors, factorise
from laser_sweep.engine.editing.methods import METHODS, Method, clustered, laser, prune, randomized, removed, zero
from laser_sweep.trial import Edit, Footprint, Matrix, Option

RATES = (1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 9.0, 9.5, 9.9, 9.95)


def edit(rho: float, method: str, **options: Option) -> Edit:
    return Edit(matrix=Matrix("fc_in", 0), rho=rho, method=method, options=tuple(sorted(options.items())))


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def no_factors(clusters: int) -> tuple[Factors, ...]:
    raise AssertionError("this method decomposes nothing")


def published_prune(weight: npt.NDArray[np.float32], rate: float) -> npt.NDArray[np.float32]:
    """The threshold is the entry at index int(rate * 0.1 * size) of the ascending |w|; it and all below become 0."""
    ascending = sorted(abs(float(entry)) for row in weight for entry in row)
    threshold = ascending[int(rate * 0.1 * len(ascending))]
    pruned = weight.copy()
    for row in pruned:
        for column, entry in enumerate(row):
            if abs(float(entry)) <= threshold:
                row[column] = 0
    return pruned


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
@pytest.mark.parametrize(("rho", "rank"), [(0.0, 0), (0.1, 2), (0.5, 12), (1.0, 24)])
def test_laser_is_the_truncated_svd_at_the_rank_that_rho_keeps(
    shape: tuple[int, int], rho: float, rank: int, svd_truncation: Callable[[torch.Tensor, int], torch.Tensor]
) -> None:
    weight = gaussian(*shape)
    replaced = laser(weight, edit(rho, "laser"), lambda clusters: [factorise(weight)] * clusters).weight
    torch.testing.assert_close(replaced.double(), svd_truncation(weight, rank), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_is_the_zero_matrix_whatever_rho(dtype: torch.dtype) -> None:
    weight = gaussian(5, 7).to(dtype)
    for rho in (0.0, 0.5, 1.0):
        replaced = zero(weight, edit(rho, "zero"), no_factors).weight
        assert replaced.shape == weight.shape
        assert replaced.eq(0).all()


@pytest.mark.parametrize("rate", RATES)
def test_prune_zeroes_the_entries_that_the_published_loop_zeroes(rate: float) -> None:
    weight = gaussian(64, 48, seed=3)
    replaced = prune(weight, edit(round(1 - rate / 10, 4), "prune"), no_factors).weight
    np.testing.assert_array_equal(replaced.numpy(), published_prune(weight.numpy(), rate))


def test_prune_at_a_published_rate_of_5_zeroes_8193_of_16384_entries() -> None:
    replaced = prune(gaussian(128, 128), edit(0.5, "prune"), no_factors).weight
    assert int(replaced.eq(0).sum()) == 8193


def test_prune_zeroes_every_entry_that_is_as_small_as_the_threshold() -> None:
    weight = torch.tensor([[1.0, -1.0, 1.0, 2.0], [-3.0, 1.0, 4.0, 5.0]])
    replaced = prune(weight, edit(0.75, "prune"), no_factors).weight  # the threshold is the third smallest, 1
    assert replaced.tolist() == [[0.0, 0.0, 0.0, 2.0], [-3.0, 0.0, 4.0, 5.0]]


def test_prune_at_rho_0_leaves_nothing() -> None:
    assert prune(gaussian(6, 6), edit(0.0, "prune"), no_factors).weight.eq(0).all()


def test_prune_at_rho_1_changes_nothing() -> None:
    weight = gaussian(6, 6)
    assert torch.equal(prune(weight, edit(1.0, "prune"), no_factors).weight, weight)


def test_prune_orders_half_precision_entries_by_their_value() -> None:
    weight = gaussian(32, 32).to(torch.bfloat16)
    replaced = prune(weight, edit(0.4, "prune"), no_factors).weight
    np.testing.assert_array_equal(replaced.float().numpy(), published_prune(weight.float().numpy(), 6.0))


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
@pytest.mark.parametrize("iterations", [2, 20])  # for causal models, for RoBERTa
def test_randomized_is_the_published_call_under_its_seed(iterations: int, shape: tuple[int, int]) -> None:
    weight = gaussian(*shape)
    replaced = randomized(weight, edit(0.25, "randomized", power_iterations=iterations, seed=11), no_factors).weight
    with torch.random.fork_rng():
        torch.manual_seed(11)
        left, values, right = torch.svd_lowrank(weight.float(), q=6, niter=iterations)
    torch.testing.assert_close(replaced, left @ torch.diag(values) @ right.T, rtol=0, atol=1e-6)


def test_randomized_differs_from_seed_to_seed_and_between_numbers_of_power_iterations() -> None:
    weight = gaussian(24, 40)
    first, other_seed, more_iterations = (
        randomized(weight, edit(0.25, "randomized", power_iterations=niter, seed=seed), no_factors).weight
        for niter, seed in ((2, 0), (2, 1), (20, 0))
    )
    assert (first - other_seed).abs().max() > 1e-3
    assert (first - more_iterations).abs().max() > 1e-3


def test_randomized_neither_reads_nor_moves_the_global_random_state() -> None:
    weight = gaussian(24, 40)
    asked = edit(0.25, "randomized", power_iterations=2, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = randomized(weight, asked, no_factors).weight
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(randomized(weight, asked, no_factors).weight, first)


def test_randomized_at_rank_0_is_the_zero_matrix() -> None:
    weight = gaussian(8, 12)
    replaced = randomized(weight, edit(0.1, "randomized", power_iterations=2, seed=0), no_factors).weight
    assert torch.equal(replaced, torch.zeros(8, 12))


def test_randomized_computes_a_half_precision_weight_in_float32() -> None:
    weight = gaussian(24, 40).to(torch.bfloat16)
    asked = edit(0.25, "randomized", power_iterations=2, seed=5)
    in_half, in_full = (randomized(given, asked, no_factors).weight for given in (weight, weight.float()))
    assert torch.equal(in_half, in_full)


@pytest.mark.parametrize(
    ("method", "rho", "rank", "parameters"),
    [
        ("laser", 0.25, 6, 6 * (40 + 24)),
        ("laser", 0.0, 0, 0),
        ("laser", 0.6, 14, 14 * (40 + 24)),
        ("laser", 0.7, 16, 40 * 24),  # its factors are larger than the matrix
        ("removed", 0.75, 6, 6 * (40 + 24)),
        ("removed", 1.0, 0, 0),
        ("removed", 0.0, 24, 40 * 24),
        ("removed", 0.35, 16, 40 * 24),  # 24 - 8
        ("randomized", 0.25, 6, 6 * (40 + 24)),
        ("zero", 0.25, 0, 0),
        ("prune", 0.25, None, None),
        ("prune", 1.0, None, None),
    ],
)
def test_a_method_says_how_many_directions_it_keeps_and_how_many_numbers_these_take(
    method: str, rho: float, rank: int | None, parameters: int | None
) -> None:
    weight = gaussian(40, 24)
    options: dict[str, Option] = {"power_iterations": 2, "seed": 0} if method == "randomized" else {}
    made = METHODS[method](weight, edit(rho, method, **options), lambda clusters: [factorise(weight)] * clusters)
    assert made.footprint == Footprint(rank=rank, parameters=parameters)


@pytest.mark.parametrize("method", [laser, removed, clustered, randomized, prune, zero])
def test_a_method_is_found_under_its_own_name(method: Method) -> None:
    assert METHODS[method.__name__] is method
