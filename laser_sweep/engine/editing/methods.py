"""The interventions by name: each turns a weight into its replacement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from laser_sweep.engine.editing.factor import Factors, in_full, rank_of
from laser_sweep.trial import Edit

FactorsOf: TypeAlias = Callable[[], Factors]
Method: TypeAlias = Callable[[torch.Tensor, Edit, FactorsOf], torch.Tensor]


def laser(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> torch.Tensor:
    """Exact truncated SVD of W (m, n) at rank int(min(m, n) * rho)."""
    return factors().truncate(weight, rank_of(edit.rho, *weight.shape))


def randomized(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> torch.Tensor:
    """The published code's approximation: `torch.svd_lowrank` with a sketch as wide as the rank, here with a seed.

    It is far from the best rank-k approximation on flat spectra and differs from seed to seed; it is for reproducing
    the literature.
    """
    options = dict(edit.options)
    rank = rank_of(edit.rho, *weight.shape)
    with torch.random.fork_rng(devices=[weight.device] if weight.is_cuda else []):
        torch.manual_seed(int(options["seed"]))
        left, values, right = torch.svd_lowrank(in_full(weight), q=rank, niter=int(options["power_iterations"]))
    return left @ torch.diag(values) @ right.T


def prune(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> torch.Tensor:
    """Magnitude pruning: the entries up to the (1 - rho) quantile of |w| become zero, that one included.

    This is what the published code calls dropout: the threshold is the entry at index int((1 - rho) * size) of |w| in
    ascending order. At rho = 1 everything is kept.
    """
    if edit.rho == 1:
        return weight
    magnitudes = weight.abs()
    index = min(int((1 - edit.rho) * magnitudes.numel()), magnitudes.numel() - 1)
    threshold = magnitudes.flatten().sort().values[index]
    return torch.where(magnitudes <= threshold, torch.zeros_like(weight), weight)


def zero(weight: torch.Tensor, edit: Edit, factors: FactorsOf) -> torch.Tensor:
    """The zero matrix, whatever rho."""
    return torch.zeros_like(weight)


METHODS: Mapping[str, Method] = {"laser": laser, "randomized": randomized, "prune": prune, "zero": zero}


def kept_rank(edit: Edit, rows: int, columns: int) -> int | None:
    """The rank that an edit leaves by construction, None where the method does not choose one."""
    if edit.method == "zero":
        return 0
    return None if edit.method == "prune" else rank_of(edit.rho, rows, columns)
