from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.engine.editing.clusters import allocate
from laser_sweep.engine.editing.factor import Factors, factorise
from laser_sweep.engine.editing.methods import Replacement, clustered, laser
from laser_sweep.trial import Edit, Footprint, Matrix

Array = npt.NDArray[np.float64]

ALLOCATIONS = ("fraction", "equal_memory", "pooled")
SHAPES = ((24, 40), (40, 24), (17, 17), (1, 9), (9, 1))
CUTS = [(shape, k) for shape in SHAPES for k in sorted({1, 2, 3, 5, shape[0]}) if k <= shape[0]]


def edit(rho: float, clusters: int, allocation: str = "fraction", partition: str = "consecutive") -> Edit:
    options = (("allocation", allocation), ("clusters", clusters), ("partition", partition), ("seed", 0))
    return Edit(matrix=Matrix("fc_in", 0), rho=rho, method="clustered", options=options)


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Rows of different lengths, so that blocks differ in their singular values; float64."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.rand(rows, 1, generator=generator, dtype=torch.float64) * 3 + 0.1
    return scales * torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def factors_of(weight: torch.Tensor) -> Callable[[int], list[Factors]]:
    return lambda clusters: [factorise(torch.from_numpy(block).to(weight.dtype)) for block in cut(weight, clusters)]


def replace(weight: torch.Tensor, asked: Edit) -> Replacement:
    return clustered(weight, asked, factors_of(weight))


def cut(weight: torch.Tensor, clusters: int) -> list[Array]:
    """Consecutive rows, the first blocks one longer where they cannot be equal."""
    matrix = weight.double().numpy()
    rows, longer = divmod(len(matrix), clusters)
    blocks, start = [], 0
    for number in range(clusters):
        size = rows + (number < longer)
        blocks.append(np.ascontiguousarray(matrix[start : start + size]))
        start += size
    assert start == len(matrix)
    return blocks


def single_budget(rho: float, weight: torch.Tensor) -> int:
    """Entries of the factors of one truncated SVD of the whole matrix."""
    rank = int(rho * min(weight.shape))
    return int(np.zeros((weight.shape[0], rank)).size + np.zeros((rank, weight.shape[1])).size)


def cost(blocks: Sequence[Array], ranks: Sequence[int]) -> int:
    """Entries of the factors of truncated SVDs of these ranks."""
    entries = 0
    for block, rank in zip(blocks, ranks, strict=True):
        left, _, right = np.linalg.svd(block, full_matrices=False)
        entries += left[:, :rank].size + right[:rank].size
    return entries


def expected_ranks(allocation: str, rho: float, weight: torch.Tensor, clusters: int) -> list[int]:
    """By the definitions, one step at a time."""
    blocks = cut(weight, clusters)
    full = [min(block.shape) for block in blocks]
    if allocation == "fraction":
        return [int(rho * size) for size in full]
    budget = single_budget(rho, weight)
    ranks = [0] * clusters
    if allocation == "equal_memory":
        for rank in range(1, max(full) + 1):
            more = [min(rank, size) for size in full]
            if cost(blocks, more) > budget:
                break
            ranks = more
        return ranks
    values = sorted(
        ((value, number) for number, block in enumerate(blocks) for value in np.linalg.svd(block, compute_uv=False)),
        reverse=True,
    )
    for _, number in values:
        more = [rank + (place == number) for place, rank in enumerate(ranks)]
        if cost(blocks, more) <= budget:
            ranks = more
    return ranks


def truncated(blocks: Sequence[Array], ranks: Sequence[int]) -> Array:
    """The blocks, each by its own full SVD in float64, one after the other."""
    rows = []
    for block, rank in zip(blocks, ranks, strict=True):
        left, values, right = np.linalg.svd(block, full_matrices=False)
        rows += [row @ np.diag(values[:rank]) @ right[:rank] for row in left[:, :rank]]
    return np.array(rows)


@pytest.mark.parametrize(("shape", "clusters"), CUTS)
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_every_block_of_rows_is_its_own_truncated_svd(shape: tuple[int, int], clusters: int, allocation: str) -> None:
    weight = gaussian(*shape)
    for rho in (0.0, 0.1, 0.34, 0.75, 1.0):
        made = replace(weight, edit(rho, clusters, allocation))
        ranks = expected_ranks(allocation, rho, weight, clusters)
        np.testing.assert_allclose(made.weight.numpy(), truncated(cut(weight, clusters), ranks), rtol=0, atol=1e-9)
        assert made.footprint.rank == sum(ranks)
        assert made.footprint.row_clusters is None


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("partition", ["consecutive", "subspaces"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_one_block_is_laser_bit_for_bit(
    allocation: str, partition: str, dtype: torch.dtype, transposed: bool, bits: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    weight = gaussian(30, 22).to(dtype)
    weight = weight.T if transposed else weight
    for rho in (0.0, 0.05, 0.3, 0.9, 1.0):
        one = clustered(weight, edit(rho, 1, allocation, partition), lambda clusters: [factorise(weight)] * clusters)
        plain = laser(weight, edit(rho, 1), lambda clusters: [factorise(weight)] * clusters)
        assert torch.equal(bits(one.weight), bits(plain.weight))
        assert one.footprint == plain.footprint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_blocks_of_half_precision_weights_are_truncated_in_float32(dtype: torch.dtype) -> None:
    weight = gaussian(26, 20).to(dtype)
    made = clustered(weight, edit(0.5, 4), lambda clusters: [factorise(b) for b in weight.tensor_split(clusters)])
    assert made.weight.dtype == torch.float32
    np.testing.assert_allclose(made.weight.numpy(), truncated(cut(weight, 4), [3] * 4), rtol=0, atol=2e-5)


@given(
    columns=st.integers(1, 5),
    more_rows=st.integers(0, 9),
    clusters=st.integers(1, 4),
    rho=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_at_equal_rank_blocks_are_never_further_from_the_matrix_than_one_svd(
    columns: int, more_rows: int, clusters: int, rho: float, seed: int
) -> None:
    """No block is wider than tall, so that the fraction rho of its rank is that of the matrix."""
    weight = gaussian(clusters * columns + more_rows, columns, seed)
    made = replace(weight, edit(rho, clusters))
    rank = int(rho * columns)
    assert made.footprint.rank == clusters * rank
    error = np.linalg.norm(weight.numpy() - made.weight.numpy())
    assert error <= np.linalg.norm(np.linalg.svd(weight.numpy(), compute_uv=False)[rank:]) + 1e-9


@given(
    size=st.integers(1, 4),
    clusters=st.integers(1, 4),
    columns=st.integers(1, 6),
    rho=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_of_all_allocations_within_the_budget_pooled_has_the_smallest_error_where_blocks_are_of_one_size(
    size: int, clusters: int, columns: int, rho: float, seed: int
) -> None:
    weight = gaussian(size * clusters, columns, seed)
    made = replace(weight, edit(rho, clusters, "pooled"))
    blocks = cut(weight, clusters)
    matrix = weight.numpy()
    errors = [
        np.linalg.norm(matrix - truncated(blocks, ranks))
        for ranks in itertools.product(range(min(size, columns) + 1), repeat=clusters)
        if cost(blocks, ranks) <= single_budget(rho, weight)
    ]
    assert np.linalg.norm(matrix - made.weight.numpy()) <= min(errors) + 1e-9


shapes = st.tuples(st.integers(1, 24), st.integers(1, 24))


@given(shape=shapes, clusters=st.integers(1, 24), rho=st.floats(0, 1), seed=st.integers(0, 1000))
def test_equal_memory_takes_no_more_than_one_svd_and_one_direction_more_in_each_block_would(
    shape: tuple[int, int], clusters: int, rho: float, seed: int
) -> None:
    weight, clusters = gaussian(*shape, seed), min(clusters, shape[0])
    blocks, budget = cut(weight, clusters), single_budget(rho, weight)
    sizes = [len(block) for block in blocks]
    kept = allocate("equal_memory", rho, sizes, shape[1], ())
    full = [min(block.shape) for block in blocks]
    rank = max(kept)
    assert list(kept) == [min(rank, most) for most in full]
    assert cost(blocks, kept) <= budget
    more = [min(rank + 1, most) for most in full]
    assert more == full == list(kept) or cost(blocks, more) > budget
    assert replace(weight, edit(rho, clusters, "equal_memory")).footprint.rank == sum(kept)


@given(shape=shapes, clusters=st.integers(1, 24), rho=st.floats(0, 1), seed=st.integers(0, 1000))
def test_pooled_spends_its_budget_on_leading_directions_until_none_fits(
    shape: tuple[int, int], clusters: int, rho: float, seed: int
) -> None:
    weight, clusters = gaussian(*shape, seed), min(clusters, shape[0])
    blocks = cut(weight, clusters)
    values = [torch.from_numpy(np.linalg.svd(block, compute_uv=False)) for block in blocks]
    kept = allocate("pooled", rho, [len(block) for block in blocks], shape[1], values)
    left = single_budget(rho, weight) - cost(blocks, kept)
    assert left >= 0
    for block, rank in zip(blocks, kept, strict=True):
        assert rank == min(block.shape) or left < sum(block.shape)


def test_pooled_passes_over_a_direction_that_does_not_fit_and_goes_on_with_a_smaller_block() -> None:
    """Directions take 7 and 6 numbers of 18 - 5, of which the first leaves 6."""
    values = [torch.tensor([9.0, 8.0, 1.0]), torch.tensor([7.0, 2.0])]
    assert allocate("pooled", 0.5, (3, 2), 4, [each.double() for each in values], overhead=5) == (1, 1)


@given(
    shape=shapes,
    clusters=st.integers(1, 24),
    rho=st.floats(0, 1),
    allocation=st.sampled_from(ALLOCATIONS),
    seed=st.integers(0, 1000),
)
def test_parameters_are_the_entries_of_the_factors_or_of_the_matrix_where_these_are_fewer(
    shape: tuple[int, int], clusters: int, rho: float, allocation: str, seed: int
) -> None:
    """The rank of each block is read off the replacement."""
    weight, clusters = gaussian(*shape, seed), min(clusters, shape[0])
    made = replace(weight, edit(rho, clusters, allocation))
    ranks = [int(np.linalg.matrix_rank(block, tol=1e-6)) for block in cut(made.weight, clusters)]
    entries = cost(cut(weight, clusters), ranks)
    assert made.footprint == Footprint(rank=sum(ranks), parameters=min(entries, weight.numel()))


@pytest.mark.parametrize("clusters", [1, 3, 5, 16])
def test_a_fraction_of_all_is_all_and_a_fraction_of_0_is_nothing(clusters: int) -> None:
    weight = gaussian(16, 10)
    whole = replace(weight, edit(1.0, clusters))
    torch.testing.assert_close(whole.weight, weight, rtol=0, atol=1e-12)
    assert whole.footprint.parameters == weight.numel()
    for allocation in ALLOCATIONS:
        nothing = replace(weight, edit(0.0, clusters, allocation))
        assert nothing.weight.eq(0).all()
        assert nothing.footprint == Footprint(rank=0, parameters=0)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("partition", ["consecutive", "subspaces"])
@pytest.mark.parametrize("shape", [(12, 9), (9, 12), (7, 1), (1, 7)])
def test_zero_and_constant_matrices_stay_what_they_are(allocation: str, partition: str, shape: tuple[int, int]) -> None:
    zeros, threes = torch.zeros(shape), torch.full(shape, 3.0)
    clusters = min(3, shape[0])
    for rho in (0.0, 0.4, 1.0):
        assert torch.equal(replace(zeros, edit(rho, clusters, allocation, partition)).weight, zeros)
    if allocation == "fraction" or 1 not in shape:  # a single SVD of a vector takes less than two blocks of it
        made = replace(threes, edit(1.0, clusters, allocation, partition))
        torch.testing.assert_close(made.weight, threes, rtol=1e-6, atol=0)


@pytest.mark.parametrize("partition", ["consecutive", "subspaces"])
@pytest.mark.parametrize("clusters", [0, -1, 7])
def test_a_number_of_blocks_that_the_rows_cannot_be_cut_into_is_named_with_its_override(
    partition: str, clusters: int
) -> None:
    weight = gaussian(6, 9)
    with pytest.raises(
        ValueError, match=rf"clusters={clusters} .* of 6 rows; set intervention\.options\.clusters to 1\.\.6"
    ):
        clustered(weight, edit(0.5, clusters, "fraction", partition), lambda clusters: [factorise(weight)])


def test_an_option_that_does_not_exist_is_named_with_those_that_do() -> None:
    weight = gaussian(6, 9)
    with pytest.raises(ValueError, match="allocation=fair does not exist; choose from fraction, equal_memory, pooled"):
        replace(weight, edit(0.5, 2, "fair"))
    with pytest.raises(ValueError, match="partition=columns does not exist; choose from consecutive, subspaces"):
        replace(weight, edit(0.5, 2, "fraction", "columns"))
