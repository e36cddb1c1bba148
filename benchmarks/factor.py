"""One decomposition of a matrix for all rho, against one randomised or one full decomposition for each rho.

The randomised one is `torch.svd_lowrank(q=rank, niter=2)`, as published; the full one is `torch.linalg.svd`. Ours and
the full one give the same truncation; how far the randomised one is from it is in the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.table import Table

from benchmarks.command import Figures, run, show
from laser_sweep.engine.editing.factor import factorise
from laser_sweep.trial import rank_of

RHOS = (0.01, 0.05, 0.1, 0.2, 0.4)
TOLERANCE = 1e-4  # relative, of a truncation in float32
DECAY = 0.5  # singular value i is i ** -DECAY of the first


@dataclass(frozen=True)
class Size:
    shapes: tuple[tuple[int, int], ...]


FULL = Size(shapes=((1024, 4096), (1376, 512)))
SMALL = Size(shapes=((100, 140), (160, 100)))


def measure(size: Size) -> Figures:
    """Seconds of the three ways for each shape, and relative differences from the exact truncation."""
    torch.set_num_threads(1)  # what a worker has by default
    ours(torch.randn(100, 100), [1])  # loads what the first call loads
    table = Table("matrix", "way", "s for 5 rho", "ratio", "largest relative difference")
    figures: dict[str, float] = {}
    for shape in size.shapes:
        weight = with_slow_decay(*shape)
        ranks = [rank_of(rho, *shape) for rho in RHOS]
        exact = exact_truncations(weight, ranks)
        ways: dict[str, Callable[[], list[torch.Tensor]]] = {
            "once": lambda weight=weight, ranks=ranks: ours(weight, ranks),
            "svd_lowrank": lambda weight=weight, ranks=ranks: [randomised(weight, rank) for rank in ranks],
            "full_svd": lambda weight=weight, ranks=ranks: [full(weight, rank) for rank in ranks],
        }
        seconds, off = {}, {}
        for name, way in ways.items():
            started = time.perf_counter()
            found = way()
            seconds[name] = time.perf_counter() - started
            off[name] = max(difference(one, right) for one, right in zip(found, exact, strict=True))
        assert off["once"] < TOLERANCE, off
        assert off["full_svd"] < TOLERANCE, off
        title = "x".join(map(str, shape))
        for name in ways:
            ratio = seconds[name] / seconds["once"]
            table.add_row(title, name, f"{seconds[name]:.3f}", f"{ratio:.1f}", f"{off[name]:.1e}")
            figures[f"{name}_seconds_{title}"] = seconds[name]
            figures[f"{name}_difference_{title}"] = off[name]
        table.add_section()
    first = "x".join(map(str, size.shapes[0]))
    figures["lowrank_ratio"] = figures[f"svd_lowrank_seconds_{first}"] / figures[f"once_seconds_{first}"]
    figures["full_svd_ratio"] = figures[f"full_svd_seconds_{first}"] / figures[f"once_seconds_{first}"]
    show(
        f"Random float32 matrices with singular values i^-{DECAY}, rho {', '.join(map(str, RHOS))}; "
        "one thread. Differences are from a float64 SVD.",
        table,
    )
    return figures


def with_slow_decay(rows: int, columns: int) -> torch.Tensor:
    """A float32 matrix (rows, columns) with random singular vectors and singular values that fall slowly."""
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(rows, min(rows, columns), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, min(rows, columns), generator=generator))
    values = torch.arange(1, min(rows, columns) + 1, dtype=torch.float32) ** -DECAY
    return (left * values) @ right.T


def ours(weight: torch.Tensor, ranks: list[int]) -> list[torch.Tensor]:
    factors = factorise(weight)
    return [factors.truncate(weight, rank) for rank in ranks]


def randomised(weight: torch.Tensor, rank: int) -> torch.Tensor:
    left, values, right = torch.svd_lowrank(weight, q=rank, niter=2)
    return left @ torch.diag(values) @ right.T


def full(weight: torch.Tensor, rank: int) -> torch.Tensor:
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    return (left[:, :rank] * values[:rank]) @ right[:rank]


def exact_truncations(weight: torch.Tensor, ranks: list[int]) -> list[torch.Tensor]:
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    return [(left[:, :rank] * values[:rank]) @ right[:rank] for rank in ranks]


def difference(found: torch.Tensor, right: torch.Tensor) -> float:
    """Relative, in the Frobenius norm."""
    return float(torch.linalg.norm(found.double() - right) / torch.linalg.norm(right))


if __name__ == "__main__":
    run(measure, full=FULL, small=SMALL, description=__doc__)
