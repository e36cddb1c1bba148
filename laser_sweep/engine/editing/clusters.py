"""The rows of a matrix in blocks, how many singular directions each block keeps, and what these take.

Blocks of consecutive rows are those of "Compress to Impress" (arXiv 2510.20800).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from laser_sweep.trial import Footprint, rank_of

ALLOCATIONS = ("fraction", "equal_memory", "pooled")


def consecutive_blocks(weight: torch.Tensor, clusters: int) -> tuple[torch.Tensor, ...]:
    """The rows of W (m, n), cut in order into `clusters` blocks (m_b, n) whose sizes differ by at most one.

    They share storage with `weight`. Raises ValueError where there are fewer rows than blocks.
    """
    check_clusters(weight, clusters)
    return weight.tensor_split(clusters)


def check_clusters(weight: torch.Tensor, clusters: int) -> None:
    """Raises ValueError where W (m, n) does not have a row for each of `clusters` blocks."""
    if not 1 <= clusters <= len(weight):
        raise ValueError(
            f"clusters={clusters} is not a number of blocks for a matrix of {len(weight)} rows; "
            f"set intervention.options.clusters to 1..{len(weight)}"
        )


def allocate(
    allocation: str,
    rho: float,
    sizes: Sequence[int],
    columns: int,
    singular_values: Sequence[torch.Tensor],
    *,
    overhead: int = 0,
) -> tuple[int, ...]:
    """How many directions each block of `sizes` rows and n `columns` keeps.

    `fraction` keeps j_b = int(rho min(m_b, n)). The others keep what fits in the memory of the single SVD at the same
    rho, where a direction of block b takes m_b + n numbers: Σ_b j_b (m_b + n) + overhead <= r (m + n), with
    r = int(rho min(m, n)) and `overhead` numbers that are stored besides. `equal_memory` keeps the same number in each
    block, or all of a block that has fewer. `pooled` keeps the largest of the `singular_values`, for each block
    (min(m_b, n),), float64 and descending, which no other allocation reads. Where blocks are of one size, no allocation
    within that memory has a smaller Frobenius error than `pooled` (Eckart-Young in each block).

    Raises ValueError for an allocation that does not exist.
    """
    rows = sum(sizes)
    budget = rank_of(rho, rows, columns) * (rows + columns) - overhead
    if allocation == "fraction":
        return tuple(rank_of(rho, size, columns) for size in sizes)
    if allocation == "equal_memory":
        return _equal(budget, sizes, columns)
    if allocation == "pooled":
        return _largest(budget, sizes, columns, singular_values)
    raise ValueError(f"allocation={allocation} does not exist; choose from {', '.join(ALLOCATIONS)}")


def _equal(budget: int, sizes: Sequence[int], columns: int) -> tuple[int, ...]:
    def kept(rank: int) -> tuple[int, ...]:
        return tuple(min(rank, size, columns) for size in sizes)

    full = min(max(sizes), columns)
    fitting = bisect.bisect_right(
        range(1, full + 1), budget, key=lambda rank: _num_parameters(kept(rank), sizes, columns)
    )
    return kept(fitting)


def _largest(
    budget: int, sizes: Sequence[int], columns: int, singular_values: Sequence[torch.Tensor]
) -> tuple[int, ...]:
    """Spends the budget from the largest value down; a block whose next direction does not fit takes no more."""
    values = torch.cat([block.cpu() for block in singular_values])
    blocks = torch.arange(len(sizes)).repeat_interleave(torch.tensor([len(block) for block in singular_values]))
    kept = [0] * len(sizes)
    # Stable, so that of equal values the first block's comes first; within a block they are in order already. What is
    # left only shrinks: a block that was passed over once is passed over ever after, and keeps its leading directions.
    for block in blocks[values.argsort(descending=True, stable=True)].tolist():
        cost = sizes[block] + columns
        if cost <= budget:
            kept[block] += 1
            budget -= cost
    return tuple(kept)


def footprint(
    ranks: Sequence[int], sizes: Sequence[int], columns: int, row_clusters: npt.NDArray[np.uint16] | None = None
) -> Footprint:
    """What blocks of `sizes` rows and n `columns` take that keep these `ranks`; `row_clusters` (m,) as in Footprint."""
    parameters = _num_parameters(ranks, sizes, columns) + (0 if row_clusters is None else len(row_clusters))
    return Footprint(rank=sum(ranks), parameters=min(parameters, sum(sizes) * columns), row_clusters=row_clusters)


def _num_parameters(ranks: Sequence[int], sizes: Sequence[int], columns: int) -> int:
    """Entries of the factors (m_b, j_b) and (j_b, n) of all blocks."""
    return sum(rank * (size + columns) for rank, size in zip(ranks, sizes, strict=True))
