from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laser_sweep.engine.editing.factor import factorise
from laser_sweep.trial import rank_of

RATES = (1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 9.5, 9.9, 9.95)
RHOS = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.01, 0.005)
PUBLISHED_RANKS = {
    768: (691, 614, 460, 307, 153, 76, 38, 7, 3),
    2048: (1843, 1638, 1228, 819, 409, 204, 102, 20, 10),
    4096: (3686, 3276, 2457, 1638, 819, 409, 204, 40, 20),
}


def matrix(rows: int, columns: int, *, decay: float, seed: int = 0, rank: int | None = None) -> torch.Tensor:
    """A matrix with singular values i ** -decay, the first `rank` of them, in float64."""
    generator = torch.Generator().manual_seed(seed)
    size = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, size, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, size, generator=generator, dtype=torch.float64)).Q
    values = torch.arange(1, size + 1, dtype=torch.float64) ** -decay
    values[size if rank is None else rank :] = 0
    return left @ torch.diag(values) @ right.T


@pytest.mark.parametrize("size", PUBLISHED_RANKS)
def test_the_rank_is_the_published_one_at_every_published_rate(size: int) -> None:
    ranks = tuple(rank_of(rho, size, 4 * size) for rho in RHOS)
    assert ranks == PUBLISHED_RANKS[size]
    assert ranks == tuple(int(size * ((10 - rate) * 0.1)) for rate in RATES)


def test_the_rank_is_a_fraction_of_the_shorter_side() -> None:
    assert rank_of(0.25, 100, 40) == rank_of(0.25, 40, 100) == 10


@given(rows=st.integers(1, 20_000), columns=st.integers(1, 20_000))
def test_rho_0_keeps_nothing_and_rho_1_keeps_all(rows: int, columns: int) -> None:
    assert rank_of(0, rows, columns) == 0
    assert rank_of(1, rows, columns) == min(rows, columns)


def test_the_published_expression_drops_a_rank_at_a_rate_of_9_9_and_a_size_of_1000() -> None:
    assert int(1000 * ((10 - 9.9) * 0.1)) == 9
    assert rank_of(0.01, 1000, 1000) == 10


@pytest.mark.parametrize(("rows", "columns"), [(24, 60), (60, 24), (32, 32), (1, 17), (17, 1), (1, 1)])
@pytest.mark.parametrize("decay", [0.25, 1.0, 3.0])
def test_every_truncation_is_the_truncated_svd(
    rows: int, columns: int, decay: float, svd_truncation: Callable[[torch.Tensor, int], torch.Tensor]
) -> None:
    weight = matrix(rows, columns, decay=decay)
    factors = factorise(weight)
    for rank in range(min(rows, columns) + 1):
        torch.testing.assert_close(factors.truncate(weight, rank), svd_truncation(weight, rank), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(24, 60), (60, 24), (32, 32), (1, 17), (17, 1)])
def test_singular_values_are_those_of_the_svd_strongest_first(rows: int, columns: int) -> None:
    weight = matrix(rows, columns, decay=1.0)
    expected = torch.linalg.svdvals(weight)
    torch.testing.assert_close(factorise(weight).singular_values, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(24, 60), (60, 24)])
def test_the_basis_is_orthonormal_and_of_the_shorter_side(rows: int, columns: int) -> None:
    basis = factorise(matrix(rows, columns, decay=1.0, rank=3)).basis
    assert basis.dtype == torch.float64
    torch.testing.assert_close(basis.T @ basis, torch.eye(24, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(20, 50), (50, 20)])
def test_a_rank_deficient_matrix_is_whole_at_its_rank(rows: int, columns: int) -> None:
    weight = matrix(rows, columns, decay=0.5, rank=5)
    factors = factorise(weight)
    for rank in (5, 12, 20):
        torch.testing.assert_close(factors.truncate(weight, rank), weight, rtol=0, atol=1e-10)
    assert torch.linalg.matrix_norm(weight - factors.truncate(weight, 4), 2) == pytest.approx(5**-0.5)
    torch.testing.assert_close(factors.singular_values[5:], torch.zeros(15, dtype=torch.float64), rtol=0, atol=1e-7)


def test_a_zero_matrix_stays_zero_at_every_rank() -> None:
    weight = torch.zeros(6, 9)
    factors = factorise(weight)
    assert factors.singular_values.eq(0).all()
    for rank in range(7):
        assert torch.equal(factors.truncate(weight, rank), weight)


def test_a_constant_matrix_is_whole_at_rank_1() -> None:
    weight = torch.full((6, 9), 3.0)
    torch.testing.assert_close(factorise(weight).truncate(weight, 1), weight, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("rows", "columns"), [(12, 30), (30, 12)])
def test_rank_0_is_the_zero_matrix(rows: int, columns: int) -> None:
    weight = matrix(rows, columns, decay=0.5)
    assert torch.equal(factorise(weight).truncate(weight, 0), torch.zeros_like(weight))


@pytest.mark.parametrize(
    ("dtype", "computed_in"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_a_weight_is_truncated_in_at_least_float32(
    dtype: torch.dtype, computed_in: torch.dtype, svd_truncation: Callable[[torch.Tensor, int], torch.Tensor]
) -> None:
    weight = matrix(24, 40, decay=0.5).to(dtype)
    truncated = factorise(weight).truncate(weight, 7)
    assert truncated.dtype == computed_in
    tolerance = 1e-12 if computed_in == torch.float64 else 1e-6
    torch.testing.assert_close(truncated.double(), svd_truncation(weight, 7), rtol=0, atol=tolerance)


def test_a_transposed_view_is_truncated_like_a_matrix_of_its_own() -> None:
    stored = matrix(24, 40, decay=0.5)
    torch.testing.assert_close(
        factorise(stored.T).truncate(stored.T, 6), factorise(stored).truncate(stored, 6).T, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_weight_that_is_not_finite_is_refused(value: float, dtype: torch.dtype) -> None:
    weight = torch.ones(4, 6, dtype=dtype)
    weight[2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        factorise(weight)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 24),
    columns=st.integers(1, 24),
    decay=st.floats(0, 4),
    scale=st.sampled_from((1e-6, 1.0, 1e6)),
    rho=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_no_truncation_is_worse_than_eckart_and_young_allow(
    rows: int, columns: int, decay: float, scale: float, rho: float, seed: int
) -> None:
    weight = (scale * matrix(rows, columns, decay=decay, seed=seed)).float()
    rank = rank_of(rho, rows, columns)
    truncated = factorise(weight).truncate(weight, rank).double()
    values = torch.linalg.svdvals(weight.double())
    error = torch.linalg.matrix_norm(weight.double() - truncated)
    optimum = values[rank:].square().sum().sqrt()
    assert error <= optimum + 2e-6 * values.square().sum().sqrt()
    assert torch.linalg.svdvals(truncated)[rank:].sum() <= 1e-5 * values.sum()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), shape=st.sampled_from(((10, 30), (30, 10), (20, 20))))
def test_a_float64_truncation_costs_no_more_than_the_square_root_of_its_precision(
    seed: int, shape: tuple[int, int]
) -> None:
    weight = matrix(*shape, decay=12.0, seed=seed)
    values = torch.linalg.svdvals(weight)
    factors = factorise(weight)
    for rank in range(min(shape) + 1):
        error = torch.linalg.matrix_norm(weight - factors.truncate(weight, rank), 2)
        optimum = values[rank] if rank < len(values) else 0.0
        assert error <= optimum + 1e-7 * values[0]
