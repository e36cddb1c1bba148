"""One exact decomposition of a matrix serves every rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch


def in_full(weight: torch.Tensor) -> torch.Tensor:
    """The weight in the precision in which edits are computed: float64 stays, everything else becomes float32."""
    return weight if weight.dtype == torch.float64 else weight.float()


def in_range(weight: torch.Tensor) -> tuple[torch.Tensor, int]:
    """W in float64 as X and e with W = X 2^e, such that the squares of X are finite and none is lost.

    Those of smaller dtypes are as they are: e is 0.
    """
    dense = weight.to(torch.float64)
    if weight.dtype != torch.float64 or not weight.numel() or not torch.isfinite(largest := weight.abs().max()):
        return dense, 0
    exponent = int(torch.frexp(largest).exponent)
    return _scaled(dense, -exponent), exponent


def _scaled(matrix: torch.Tensor, exponent: int) -> torch.Tensor:
    """The matrix times 2^e, in two steps as 2^e itself may be beyond float64."""
    half = exponent // 2
    return matrix * 2.0**half * 2.0 ** (exponent - half)


@dataclass(frozen=True, slots=True)
class Factors:
    """A matrix W (m, n) with an orthonormal basis of its shorter side, strongest directions first.

    The best rank-k approximation of W is its projection on the k leading singular vectors of either side
    (Eckart-Young), so the basis of the shorter side alone gives every truncation.

    `basis` is (s, s) with s = min(m, n), in the precision in which edits are computed; `singular_values` is (s,),
    float64, descending.
    """

    basis: torch.Tensor
    singular_values: torch.Tensor

    def truncate(self, weight: torch.Tensor, rank: int) -> torch.Tensor:
        """The best approximation of `weight` (m, n) of at most `rank`, in float64 for float64 weights, else float32."""
        left, right = self.split(weight, slice(rank))
        return left @ right

    def split(self, weight: torch.Tensor, directions: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """The factors (m, j) and (j, n) of the part of `weight` (m, n) along j singular directions.

        They are in float64 for float64 weights, else in float32; one of them is orthonormal.
        """
        dense = in_full(weight)
        chosen = self.basis[:, directions].to(dense.device)
        if weight.shape[0] <= weight.shape[1]:
            return chosen, chosen.T @ dense
        return dense @ chosen, chosen.T


def factorise(weight: torch.Tensor) -> Factors:
    """Decomposes W (m, n) through the symmetric eigenproblem of its smaller Gram matrix, in float64.

    W Wᵀ (or Wᵀ W) squares the condition number, so directions below 1e-8 of the largest singular value lose digits:
    nothing in float32 and below, and for float64 weights an error of that size. Raises ValueError for a weight that is
    not finite.
    """
    dense, exponent = in_range(weight)
    gram = dense @ dense.T if weight.shape[0] <= weight.shape[1] else dense.T @ dense
    if not torch.isfinite(gram).all():
        raise ValueError("the weight has entries that are not finite")
    eigenvalues, vectors = torch.linalg.eigh(gram)
    # Contiguous, as what comes back from the disk: products round by how a matrix lies in memory.
    basis = vectors.flip(-1).to(in_full(weight).dtype).contiguous()
    return Factors(basis, _scaled(eigenvalues.flip(-1).clamp(min=0).sqrt(), exponent))
