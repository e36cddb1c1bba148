"""The interventions by name: each turns a weight into its replacement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from laser_sweep.engine.editing.clusters import allocate, consecutive_blocks, footprint
from laser_sweep.engine.editing.factor import Factors, factorise, in_full
from laser_sweep.engine.editing.low_rank import LowRank
from laser_sweep.engine.editing.subspaces import cluster_rows
from laser_sweep.trial import Edit, Footprint, rank_of

PARTITIONS = ("consecutive", "subspaces")


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands in for a weight (m, n), in any dtype, and what it is made of.

    `low_rank` makes its factors, up to rounding; None where a method knows none.
    """

    weight: torch.Tensor
    footprint: Footprint
    low_rank: Callable[[], LowRank] | None = None


FactorsOf: TypeAlias = Callable[[int], Sequence[Factors]]
"""The factors of the weight in so many blocks of consecutive rows; of one block, those of the whole."""
Method: TypeAlias = Callable[[torch.Tensor, Edit, FactorsOf], Replacement]


def laser(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> Replacement:
    """Exact truncated SVD of W (m, n) at rank int(min(m, n) * rho)."""
    rows, columns = weight.shape
    rank = rank_of(edit.rho, rows, columns)
    (whole,) = factors(1)
    return _of_blocks([weight], [whole], [rank])


def removed(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> Replacement:
    """What `laser` takes away at the same rho, W - W_k, of rank min(m, n) - k: the matrix speaks with that part alone.

    At rho = 1 nothing is taken away, so this is the zero matrix, and at rho = 0 it is W.
    """
    rows, columns = weight.shape
    full, rank = min(rows, columns), rank_of(edit.rho, rows, columns)
    made_of = footprint([full - rank], [rows], columns)
    if rank == full:  # where W and its projection on all directions differ by rounding
        return Replacement(torch.zeros_like(weight), made_of, lambda: _nothing(weight))
    (whole,) = factors(1)
    rest = slice(rank, None)
    return Replacement(
        in_full(weight) - whole.truncate(weight, rank), made_of, lambda: LowRank((whole.split(weight, rest),))
    )


def clustered(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> Replacement:
    """Exact truncated SVD of every block of rows ("Compress to Impress", arXiv 2510.20800).

    Options: `clusters` K blocks; `partition` is `consecutive` as in the paper, or `subspaces`, which puts rows together
    that lie near one subspace (`cluster_rows` under `seed`); `allocation` says how many directions a block keeps
    (`allocate`). With one block this is `laser`, whatever the other options.

    Raises ValueError where there are fewer rows than blocks, and for an option that does not exist.
    """
    options = dict(edit.options)
    clusters, allocation, partition = int(options["clusters"]), str(options["allocation"]), str(options["partition"])
    if partition not in PARTITIONS:
        raise ValueError(f"partition={partition} does not exist; choose from {', '.join(PARTITIONS)}")
    if partition == "subspaces" and clusters > 1:
        return _by_subspace(weight, edit.rho, allocation, clusters, int(options["seed"]))
    blocks, found = consecutive_blocks(weight, clusters), factors(clusters)
    sizes = [len(block) for block in blocks]
    ranks = allocate(allocation, edit.rho, sizes, weight.shape[1], [block.singular_values for block in found])
    return _of_blocks(blocks, found, ranks)


def _by_subspace(weight: torch.Tensor, rho: float, allocation: str, clusters: int, seed: int) -> Replacement:
    """Rows are clustered by subspaces of as many dimensions as a block keeps where all are of one size, at least one.

    Pooled blocks have no such number, and take that of equal_memory, whose budget they share. The m numbers that say
    which row is in which cluster count against the budget.
    """
    rows, columns = weight.shape
    even = [len(block) for block in consecutive_blocks(weight, clusters)]
    typical = allocate("equal_memory" if allocation == "pooled" else allocation, rho, even, columns, (), overhead=rows)
    labels = cluster_rows(weight, clusters, max(1, *typical), seed)
    order = labels.argsort(stable=True)
    sizes = labels.bincount(minlength=clusters).tolist()
    blocks = weight[order].split(sizes)
    found = [factorise(block) for block in blocks]
    ranks = allocate(allocation, rho, sizes, columns, [block.singular_values for block in found], overhead=rows)
    # What keeps nothing has nothing to assign rows for.
    row_clusters = labels.cpu().numpy().astype(np.uint16) if any(ranks) else None
    return _of_blocks(blocks, found, ranks, order=order, row_clusters=row_clusters)


def _of_blocks(
    blocks: Sequence[torch.Tensor],
    factors: Sequence[Factors],
    ranks: Sequence[int],
    *,
    order: torch.Tensor | None = None,
    row_clusters: npt.NDArray[np.uint16] | None = None,
) -> Replacement:
    """The blocks (m_b, n) at these ranks; `order` as in LowRank, `row_clusters` as in Footprint."""
    split = (f.split(block, slice(rank)) for f, block, rank in zip(factors, blocks, ranks, strict=True))
    low_rank = LowRank(tuple(split), order)
    made_of = footprint(ranks, [len(block) for block in blocks], blocks[0].shape[1], row_clusters)
    return Replacement(low_rank.product(), made_of, lambda: low_rank)


def _nothing(weight: torch.Tensor) -> LowRank:
    """The zero matrix (m, n), of no directions."""
    rows, columns = weight.shape
    dense = in_full(weight)
    return LowRank(((dense.new_zeros(rows, 0), dense.new_zeros(0, columns)),))


def randomized(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> Replacement:
    """The published code's approximation: `torch.svd_lowrank` with a sketch as wide as the rank, here with a seed.

    It is far from the best rank-k approximation on flat spectra and differs from seed to seed; it is for reproducing
    the literature.
    """
    options = dict(edit.options)
    rows, columns = weight.shape
    rank = rank_of(edit.rho, rows, columns)
    with torch.random.fork_rng(devices=[weight.device] if weight.is_cuda else []):
        torch.manual_seed(int(options["seed"]))
        left, values, right = torch.svd_lowrank(in_full(weight), q=rank, niter=int(options["power_iterations"]))
    low_rank = LowRank(((left @ torch.diag(values), right.T),))
    return Replacement(low_rank.product(), footprint([rank], [rows], columns), lambda: low_rank)


def prune(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> Replacement:
    """Magnitude pruning: the entries up to the (1 - rho) quantile of |w| become zero, that one included.

    This is what the published code calls dropout: the threshold is the entry at index int((1 - rho) * size) of |w| in
    ascending order. At rho = 1 everything is kept.
    """
    if edit.rho == 1:
        return Replacement(weight, Footprint())
    magnitudes = weight.abs()
    index = min(int((1 - edit.rho) * magnitudes.numel()), magnitudes.numel() - 1)
    threshold = magnitudes.flatten().sort().values[index]
    return Replacement(torch.where(magnitudes <= threshold, torch.zeros_like(weight), weight), Footprint())


def zero(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> Replacement:
    """The zero matrix, whatever rho."""
    return Replacement(torch.zeros_like(weight), Footprint(rank=0, parameters=0), lambda: _nothing(weight))


METHODS: Mapping[str, Method] = {
    "laser": laser,
    "removed": removed,
    "clustered": clustered,
    "randomized": randomized,
    "prune": prune,
    "zero": zero,
}
