"""The singular directions of a matrix, and how much a loss changes along them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from laser_sweep.engine.models.weight import Weight


@dataclass(frozen=True, slots=True)
class Directions:
    """The singular directions of a matrix W (m, n), strongest first, r = min(m, n).

    `basis` (r, r) are the singular vectors of the shorter side, in float64 for a float64 model, else float32;
    `singular_values` is (r,), float64. The vectors of the other side are Wᵀ u_i / σ_i or W v_i / σ_i. They do not exist
    where σ_i² is within the rounding of the Gram matrix that it comes from, eps max(m, n) σ_1² with float64's eps: the
    gradient along such a direction is 0. In float32 the others have relative errors of about 1e-7 σ_1 / σ_i.
    """

    weight: Weight
    basis: torch.Tensor
    singular_values: torch.Tensor

    @property
    def device(self) -> torch.device:
        """Where the matrix is, and what is computed with it."""
        return self.weight.parameter.device

    def along(self, inputs: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """u_iᵀ (dL/dW) v_i of each row (rows, r), float64: the sum of (u_i · d) (v_i · a) over its tokens.

        `inputs` (rows, tokens, n) are the a of y = W a, `gradients` (rows, tokens, m) the d = dL/dy. W a is computed
        anew: a small σ_i would magnify the rounding of the model's own y in half precision.
        """
        device, dtype = self.device, self.basis.dtype
        weight, basis, values = self.weight.read().to(dtype), self.basis.to(device), self.singular_values.to(device)
        inputs, gradients = inputs.to(device, dtype), gradients.to(device, dtype)
        if weight.shape[0] <= weight.shape[1]:
            inputs = inputs @ weight.T
        else:
            gradients = gradients @ weight
        products = ((gradients @ basis).double() * (inputs @ basis).double()).sum(dim=1)
        floor = torch.finfo(torch.float64).eps * max(weight.shape) * values.max().square()
        return torch.where(values.square() > floor, products / values, 0.0)

    def within(self, gradient: torch.Tensor) -> torch.Tensor:
        """u_iᵀ (dL/dW) v_i (1, r), float64, of dL/dW (m, n) itself: it is that of n tokens with one input each."""
        each = torch.eye(gradient.shape[1], dtype=gradient.dtype, device=gradient.device)
        return self.along(each[None], gradient.T[None])
