"""A linear map whose weight is held, in part or whole, as factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoredShape:
    """What a map W (m, n) consists of: `blocks` of rows and the rank of each, and `rest` rows that stay dense.

    `ordered` says that the rows of blocks and rest, one after another, are those of W in order.
    """

    in_features: int
    out_features: int
    blocks: tuple[tuple[int, int], ...]
    rest: int = 0
    ordered: bool = True

    @property
    def rank(self) -> int:
        """The number of directions that the blocks keep, all together."""
        return sum(rank for _, rank in self.blocks)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> FactoredShape:
        """Of JSON."""
        return cls(**{**values, "blocks": tuple((int(rows), int(rank)) for rows, rank in values["blocks"])})


class FactoredLinear(nn.Linear):
    """x -> W x + b for W (m, n) whose blocks of rows are products of factors (m_b, j_b) and (j_b, n).

    `weight` (Σ j_b, n) are the right factors of all blocks, `left` holds the left ones, `rest` (rows, n) the rows that
    are no product, `places` (m,) where each row of W is among the rows of the blocks and the rest. `weight` never has
    the shape of W, so that what takes it for W fails: to load it without this class, to merge an adapter into it.

    It is an `nn.Linear` so that PEFT finds the map and puts LoRA beside it.
    """

    rest: nn.Parameter | None
    places: torch.Tensor | None

    def __init__(
        self,
        shape: FactoredShape,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make W
        self.in_features, self.out_features = shape.in_features, shape.out_features
        self.ranks = [rank for _, rank in shape.blocks]

        def made(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*size, device=device, dtype=dtype))

        self.weight = made(shape.rank, shape.in_features)
        self.left = nn.ParameterList([made(rows, rank) for rows, rank in shape.blocks])
        self.register_parameter("rest", made(shape.rest, shape.in_features) if shape.rest else None)
        self.register_parameter("bias", made(shape.out_features) if bias else None)
        places = None if shape.ordered else torch.arange(shape.out_features, dtype=torch.int32, device=device)
        self.register_buffer("places", places)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., n) -> (..., m)."""
        projected = functional.linear(input, self.weight).split(self.ranks, dim=-1)
        rows = [functional.linear(part, left) for part, left in zip(projected, self.left, strict=True)]
        if self.rest is not None:
            rows.append(functional.linear(input, self.rest))
        output = rows[0] if len(rows) == 1 else torch.cat(rows, dim=-1)
        if self.places is not None:
            output = output.index_select(-1, self.places)
        return output if self.bias is None else output + self.bias

    def product(self) -> torch.Tensor:
        """W (m, n), multiplied out."""
        rights = self.weight.split(self.ranks)
        rows = [left @ right for left, right in zip(self.left, rights, strict=True)]
        rows += [] if self.rest is None else [self.rest]
        weight = torch.cat(rows)
        return weight if self.places is None else weight[self.places]

    @property
    def factor_bytes(self) -> int:
        """What the factors take, without the rows that stay dense."""
        held = [self.weight, *self.left, *([] if self.places is None else [self.places])]
        return sum(tensor.nbytes for tensor in held)

    def extra_repr(self) -> str:
        """Its sizes, as `nn.Linear` says them."""
        rest = "" if self.rest is None else f", rest={len(self.rest)}"
        ranks = f"in_features={self.in_features}, out_features={self.out_features}, ranks={self.ranks}"
        return f"{ranks}{rest}, bias={self.bias is not None}"
