"""One matrix inside a parameter: all of it, some of its rows, or one expert's slice."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A matrix (out, in) as it is stored.

    `expert` picks a slice of a parameter (experts, ., .). `transposed` where what is left is (in, out), as in
    transformers' Conv1D. `rows` are the places among the outputs (rows,) where several maps are fused into one.
    """

    parameter: torch.Tensor
    transposed: bool = False
    expert: int | None = None
    rows: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        rows, columns = self._fused().shape
        return (rows if self.rows is None else len(self.rows)), columns

    def read(self) -> torch.Tensor:
        """The matrix (out, in); it may share storage with the parameter."""
        fused = self._fused()
        return fused if self.rows is None else fused[self.rows.to(fused.device)]

    def write(self, matrix: torch.Tensor) -> None:
        """Copies `matrix` (out, in) into the parameter, whose storage stays where it is."""
        fused = self._fused()
        if self.rows is None:
            fused.copy_(matrix)
        else:
            fused[self.rows.to(fused.device)] = matrix.to(fused)

    def _fused(self) -> torch.Tensor:
        """(out, in) with all rows, sharing storage with the parameter."""
        data = self.parameter.detach()
        if self.expert is not None:
            data = data[self.expert]
        return data.T if self.transposed else data
