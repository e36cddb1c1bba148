"""Rows clustered by the subspace that they lie in."""

from __future__ import annotations

import torch

from laser_sweep.engine.editing.clusters import check_clusters
from laser_sweep.engine.editing.factor import factorise, in_range

_STARTS = 4
_ITERATIONS = 30


def cluster_rows(weight: torch.Tensor, clusters: int, dimension: int, seed: int) -> torch.Tensor:
    """The cluster (m,) of each row of W (m, n), each cluster near a subspace of `dimension` j, by k-subspaces.

    It alternates between V_b, the top-j right singular vectors of the rows in cluster b, and row w ->
    argmax_b ‖V_bᵀ w‖, at most 30 times, in float64. Neither step raises the residual, the squared distance of the rows
    from their subspaces. Of four starts the one that ends with the smallest residual counts. The first is consecutive
    blocks, so that the result is never worse than these at the same j. The others draw rows under `seed` as k-means++
    does, in proportion to what the subspaces so far leave of each; a row and the j rows at the smallest angles to it
    span the next subspace. No cluster is empty.

    Every iteration decomposes every cluster, so that this may take a hundred times as long as consecutive blocks do.
    Raises ValueError where there are fewer rows than clusters, and for a weight that is not finite.
    """
    check_clusters(weight, clusters)
    rows, _ = in_range(weight)  # how large they are makes no difference
    generator = torch.Generator().manual_seed(seed)
    sizes = [len(block) for block in rows.tensor_split(clusters)]
    labels = torch.arange(clusters, device=rows.device).repeat_interleave(torch.tensor(sizes, device=rows.device))
    best, least = _alternate(rows, labels, clusters, dimension)
    for _ in range(_STARTS - 1):
        found, residual = _alternate(rows, _drawn(rows, clusters, dimension, generator), clusters, dimension)
        if residual < least:
            best, least = found, residual
    return best


def _alternate(rows: torch.Tensor, labels: torch.Tensor, clusters: int, dimension: int) -> tuple[torch.Tensor, float]:
    """The labels (m,) in the end, and their residual, or a little more where they changed in the last iteration."""
    energy = rows.square().sum(dim=1)
    residual = torch.inf
    for _ in range(_ITERATIONS):
        scores = torch.stack([_captured(rows, _basis(rows[labels == b], dimension)) for b in range(clusters)], dim=1)
        residual = float((energy - scores.amax(dim=1)).sum())
        before, labels = labels, _assigned(scores, energy)
        if torch.equal(labels, before):
            break
    return labels, residual


def _drawn(rows: torch.Tensor, clusters: int, dimension: int, generator: torch.Generator) -> torch.Tensor:
    """Labels (m,) by subspaces that are spanned by a few rows each."""
    energy = rows.square().sum(dim=1)
    unit = rows / energy.sqrt().clamp(min=torch.finfo(rows.dtype).tiny)[:, None]
    left = energy
    scores: list[torch.Tensor] = []
    for _ in range(clusters):
        weights = left if left.any() else torch.ones_like(left)  # all rows lie in the subspaces: any other will do
        row = int(torch.multinomial(weights.cpu(), 1, generator=generator))
        near = (unit @ unit[row]).abs().topk(min(dimension + 1, len(rows))).indices
        scores.append(_captured(rows, _basis(unit[near], dimension)))
        left = torch.minimum(left, energy - scores[-1]).clamp(min=0)
    return _assigned(torch.stack(scores, dim=1), energy)


def _basis(rows: torch.Tensor, dimension: int) -> torch.Tensor:
    """Top right singular vectors (n, j) of `rows` (m_b, n), j at most `dimension`, m_b and n."""
    leading = factorise(rows).basis[:, :dimension]
    # Of the shorter side: where these are left singular vectors, the right ones span the rows that they combine.
    return leading if rows.shape[0] > rows.shape[1] else torch.linalg.qr(rows.T @ leading).Q


def _captured(rows: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """‖Vᵀ w‖² (m,) of every row w for V (n, j)."""
    return (rows @ basis).square().sum(dim=1)


def _assigned(scores: torch.Tensor, energy: torch.Tensor) -> torch.Tensor:
    """Each row's best cluster (m,) by `scores` (m, clusters); a cluster that nobody likes gets the worst-fitting row.

    That row was in company. Alone it leaves nothing, and those that it leaves no more than before.
    """
    captured, labels = scores.max(dim=1)
    left = energy - captured
    counts = labels.bincount(minlength=scores.shape[1])
    for cluster in (counts == 0).nonzero().flatten().tolist():
        row = left.masked_fill(counts[labels] == 1, -torch.inf).argmax()
        counts[labels[row]] -= 1
        counts[cluster] += 1
        labels[row] = cluster
    return labels
