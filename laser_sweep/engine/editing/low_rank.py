"""A matrix as the factors that it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class LowRank:
    """A matrix (m, n) in blocks of rows, each the product of its factors, (m_b, j_b) and (j_b, n).

    `order` (m,) says which row of the matrix each row of the blocks is, block after block; None where they are in
    order.
    """

    blocks: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    order: torch.Tensor | None = None

    def product(self) -> torch.Tensor:
        """The matrix (m, n)."""
        products = [left @ right for left, right in self.blocks]
        rows = products[0] if len(products) == 1 else torch.cat(products)
        return rows if self.order is None else rows[self.order.argsort()]
