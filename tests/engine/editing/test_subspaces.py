from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laser_sweep.engine.editing.factor import Factors
from laser_sweep.engine.editing.methods import Replacement, clustered
from laser_sweep.engine.editing.subspaces import cluster_rows
from laser_sweep.trial import Edit, Footprint, Matrix

Array = npt.NDArray[np.float64]

ALLOCATIONS = ("fraction", "equal_memory", "pooled")


def edit(rho: float, clusters: int, allocation: str = "fraction", seed: int = 0) -> Edit:
    options = (("allocation", allocation), ("clusters", clusters), ("partition", "subspaces"), ("seed", seed))
    return Edit(matrix=Matrix("fc_in", 0), rho=rho, method="clustered", options=options)


def replace(weight: torch.Tensor, asked: Edit) -> Replacement:
    def no_factors(clusters: int) -> list[Factors]:
        raise AssertionError("clusters of rows are decomposed anew, not those of consecutive rows")

    return clustered(weight, asked, no_factors)


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(seed: int, rows: int = 20, columns: int = 9) -> tuple[torch.Tensor, Array]:
    """Rows of three random planes in mixed order, and which plane each is from."""
    draw = np.random.default_rng(seed)
    planes = [draw.normal(size=(2, columns)) for _ in range(3)]
    plane = draw.permutation(np.repeat(np.arange(3), rows))
    return torch.from_numpy(np.array([draw.normal(size=2) @ planes[number] for number in plane])), plane


def residual(weight: torch.Tensor, labels: npt.ArrayLike, dimension: int) -> float:
    """Squared distance of the rows from the best subspace of each cluster."""
    matrix, found = weight.double().numpy(), np.asarray(labels)
    tails = [np.linalg.svd(matrix[found == label], compute_uv=False)[dimension:] for label in set(found.tolist())]
    return float(sum((tail**2).sum() for tail in tails))


def consecutive(rows: int, clusters: int) -> Array:
    return np.concatenate([np.full(len(block), i) for i, block in enumerate(np.array_split(np.arange(rows), clusters))])


def by_cluster(weight: torch.Tensor, row_clusters: npt.NDArray[np.uint16], ranks: dict[int, int]) -> Array:
    """The rows of each cluster from a full SVD of that cluster in float64, each in its place."""
    matrix = weight.double().numpy()
    out = np.zeros_like(matrix)
    for cluster, rank in ranks.items():
        places = [place for place, found in enumerate(row_clusters) if found == cluster]
        left, values, right = np.linalg.svd(matrix[places], full_matrices=False)
        for place, row in zip(places, left, strict=True):
            out[place] = row[:rank] * values[:rank] @ right[:rank]
    return out


@pytest.mark.parametrize("seed", range(10))
def test_rows_of_three_planes_are_told_apart(seed: int) -> None:
    weight, plane = planted(seed)
    labels = cluster_rows(weight, 3, 2, seed).numpy()
    assert len(set(zip(labels.tolist(), plane.tolist(), strict=True))) == 3  # one label for each plane
    assert residual(weight, labels, 2) < 1e-20 * float(weight.square().sum())
    assert residual(weight, consecutive(60, 3), 2) > 0.1 * float(weight.square().sum())


def test_planes_with_a_little_noise_are_told_apart_too() -> None:
    for seed in range(5):
        weight, plane = planted(seed)
        labels = cluster_rows(weight + 1e-3 * gaussian(60, 9), 3, 2, seed).numpy()
        pairs = Counter(zip(labels.tolist(), plane.tolist(), strict=True))
        assert sum(count for _, count in pairs.most_common(3)) >= 57  # of 60: near the origin noise decides


def test_the_same_seed_finds_the_same_clusters_and_nothing_else_is_asked() -> None:
    weight = gaussian(40, 12)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = cluster_rows(weight, 4, 2, 7)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert torch.equal(cluster_rows(weight, 4, 2, 7), first)
    assert any(not torch.equal(cluster_rows(weight, 4, 2, seed), first) for seed in range(5))


@settings(max_examples=40)
@given(
    rows=st.integers(1, 24),
    columns=st.integers(1, 10),
    clusters=st.integers(1, 8),
    dimension=st.integers(1, 6),
    rank=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_clusters_are_never_worse_than_consecutive_blocks_and_none_is_empty(
    rows: int, columns: int, clusters: int, dimension: int, rank: int, seed: int
) -> None:
    weight = gaussian(rows, rank, seed) @ gaussian(rank, columns, seed + 1)
    clusters = min(clusters, rows)
    labels = cluster_rows(weight, clusters, dimension, seed)
    assert set(labels.tolist()) == set(range(clusters))
    worst = residual(weight, consecutive(rows, clusters), dimension)
    assert residual(weight, labels, dimension) <= worst + 1e-12 * float(weight.square().sum())


@pytest.mark.parametrize("seed", range(10))
def test_no_row_is_nearer_to_the_subspace_of_another_cluster(seed: int) -> None:
    """The alternation has come to rest, as it does with so few rows."""
    weight = gaussian(60, 6, seed)
    labels, matrix = cluster_rows(weight, 3, 2, seed).numpy(), weight.numpy()
    captured = []
    for label in range(3):
        _, _, right = np.linalg.svd(matrix[labels == label], full_matrices=False)
        captured.append(np.linalg.norm(matrix @ right[:2].T, axis=1))
    own = np.array(captured)[labels, np.arange(60)]
    assert (own >= np.max(captured, axis=0) - 1e-9).all()


def test_rows_are_told_apart_however_small_they_are() -> None:
    """Their squares are below what float32 holds."""
    weight, _ = planted(0)
    assert torch.equal(cluster_rows(1e-25 * weight.float(), 3, 2, 0), cluster_rows(weight.float(), 3, 2, 0))


@pytest.mark.parametrize("weight", [torch.zeros(6, 4), torch.full((6, 4), 2.0), torch.eye(6)])
@pytest.mark.parametrize("clusters", [2, 3, 6])
def test_rows_that_nothing_tells_apart_still_fill_every_cluster(weight: torch.Tensor, clusters: int) -> None:
    assert set(cluster_rows(weight, clusters, 1, 0).tolist()) == set(range(clusters))


def test_a_weight_that_is_not_finite_is_refused() -> None:
    weight = gaussian(6, 4)
    weight[2, 1] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        cluster_rows(weight, 2, 1, 0)


def test_more_clusters_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="clusters=7 is not a number of blocks for a matrix of 6 rows"):
        cluster_rows(gaussian(6, 4), 7, 1, 0)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_rows_of_planes_are_kept_whole_by_two_directions_for_each_plane(allocation: str) -> None:
    """20 rows and 9 columns: three blocks of two directions take 3 · 2 · (20 + 9) numbers and 60 for the rows."""
    weight, plane = planted(3)
    rho = {"fraction": 0.25, "equal_memory": 0.45, "pooled": 0.45}[allocation]
    made = replace(weight, edit(rho, 3, allocation))
    torch.testing.assert_close(made.weight, weight, rtol=0, atol=1e-9)
    found = made.footprint.row_clusters
    assert found is not None
    assert (found.dtype, found.shape) == (np.uint16, (60,))
    assert len(set(zip(found.tolist(), plane.tolist(), strict=True))) == 3
    if allocation == "fraction":
        assert made.footprint == Footprint(rank=6, parameters=3 * 2 * (20 + 9) + 60, row_clusters=found)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (20, 20)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_cluster_is_its_own_truncated_svd_and_parameters_count_its_factors_and_the_assignment(
    allocation: str, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = gaussian(*shape, seed=5).to(dtype)
    rows, columns = shape
    for rho, clusters in ((0.2, 2), (0.5, 3), (0.5, 5), (1.0, 4)):
        made = replace(weight, edit(rho, clusters, allocation))
        found = made.footprint.row_clusters
        assert found is not None
        ranks = {
            cluster: int(np.linalg.matrix_rank(made.weight.double().numpy()[found == cluster], tol=1e-4))
            for cluster in range(clusters)
        }
        if allocation == "fraction":
            assert ranks == {b: int(rho * min((found == b).sum(), columns)) for b in range(clusters)}
        expected = by_cluster(weight, found, ranks)
        tolerance = 1e-9 if dtype == torch.float64 else 2e-5
        np.testing.assert_allclose(made.weight.double().numpy(), expected, rtol=0, atol=tolerance)
        entries = sum(rank * ((found == b).sum() + columns) for b, rank in ranks.items()) + rows
        assert made.footprint.rank == sum(ranks.values())
        assert made.footprint.parameters == min(entries, rows * columns)
        if allocation != "fraction":
            assert entries <= int(rho * min(shape)) * (rows + columns)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_what_keeps_nothing_stores_no_assignment(allocation: str) -> None:
    """The single SVD keeps one of 8 directions, 20 numbers, of which the assignment would take 12."""
    made = replace(gaussian(12, 8), edit(0.13, 4, allocation))
    assert made.weight.eq(0).all()
    assert made.footprint == Footprint(rank=0, parameters=0)
