"""The edits of one tensor of a checkpoint: its new values, or the factors that stand for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from laser_sweep.engine.editing.cache import FactorCache
from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.editing.methods import Replacement
from laser_sweep.engine.models.layout import Layout
from laser_sweep.engine.models.weight import Weight
from laser_sweep.errors import RequestError
from laser_sweep.export.factored import FactoredShape
from laser_sweep.export.files import StoredTensor
from laser_sweep.export.places import Place
from laser_sweep.trial import Edit


@dataclass(frozen=True, slots=True, kw_only=True)
class EditedMatrix:
    """What an edit left of a matrix (m, n): its rank, None where a method does not say, and the `numbers` it takes."""

    edit: Edit
    shape: tuple[int, int]
    rank: int | None
    numbers: int

    @property
    def factored(self) -> bool:
        return self.numbers < self.shape[0] * self.shape[1]


@dataclass(frozen=True, slots=True)
class Dense:
    """The values of a tensor, all edits made."""

    values: torch.Tensor
    matrices: Sequence[EditedMatrix]


@dataclass(frozen=True, slots=True)
class Factored:
    """What a `FactoredLinear` holds instead, by name."""

    shape: FactoredShape
    parts: Mapping[str, torch.Tensor]
    matrices: Sequence[EditedMatrix]


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of a parameter, by their places in it (rows,), as `left` (rows, j) times `right` (j, n)."""

    rows: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


@dataclass(frozen=True, slots=True)
class EditedTensor:
    """A tensor of the files and the edits of matrices in it, which are made in `dtype`, that of the trial.

    Values are computed when asked for and not kept.
    """

    stored: StoredTensor
    edits: Sequence[tuple[Edit, Place]]
    dtype: torch.dtype
    cache: FactorCache | None

    @property
    def parameter(self) -> str:
        """The name of the model's parameter."""
        return self.edits[0][1].parameter

    def dense(self) -> Dense:
        """The edited values, in the shape in which they are stored."""
        values = self._read()
        matrices = []
        for edit, weight, replacement in self._replacements(values):
            weight.write(replacement.weight)
            matrices.append(_dense_matrix(edit, weight, replacement))
        return Dense(values, matrices)

    def factored(self) -> Factored | None:
        """The factors of all edited matrices that are smaller so; None where none is."""
        values = self._read()
        whole = self._whole(values)
        blocks: list[_Block] = []
        matrices = []
        for edit, weight, replacement in self._replacements(values):
            rows, columns = weight.shape
            numbers = replacement.footprint.parameters
            if replacement.low_rank is None or numbers is None or numbers >= rows * columns:
                weight.write(replacement.weight)
                matrices.append(_dense_matrix(edit, weight, replacement))
                continue
            places = torch.arange(rows) if weight.rows is None else weight.rows
            blocks += _blocks(replacement, places, self.dtype)
            matrices.append(
                EditedMatrix(edit=edit, shape=weight.shape, rank=replacement.footprint.rank, numbers=numbers)
            )
        return _joined(blocks, whole, matrices) if blocks else None

    def _read(self) -> torch.Tensor:
        return self.stored.read().to(self.dtype, copy=True)

    def _whole(self, values: torch.Tensor) -> torch.Tensor:
        """The map (out, in) in which the matrices are rows."""
        return values.T if self.edits[0][1].transposed else values

    def _replacements(self, values: torch.Tensor) -> Iterator[tuple[Edit, Weight, Replacement]]:
        weights = {edit.matrix: place.weight(values) for edit, place in self.edits}
        editor = Editor(Layout((), weights), cached_matrices=1, cache=self.cache)
        for edit, _ in self.edits:
            try:
                replacement = editor.replacement(edit)
            except ValueError as error:
                raise RequestError(f"{edit.method} of {edit.matrix} cannot be made again: {error}") from None
            yield edit, weights[edit.matrix], replacement


def _dense_matrix(edit: Edit, weight: Weight, replacement: Replacement) -> EditedMatrix:
    rows, columns = weight.shape
    return EditedMatrix(edit=edit, shape=(rows, columns), rank=replacement.footprint.rank, numbers=rows * columns)


def _blocks(replacement: Replacement, places: torch.Tensor, dtype: torch.dtype) -> Iterator[_Block]:
    """The blocks of a matrix whose rows have these places in the parameter; copies, so that nothing larger is kept."""
    assert replacement.low_rank is not None
    low_rank = replacement.low_rank()
    ordered = places if low_rank.order is None else places[low_rank.order]
    sizes = [len(left) for left, _ in low_rank.blocks]
    for rows, (left, right) in zip(ordered.split(sizes), low_rank.blocks, strict=True):
        yield _Block(rows, *(factor.to(dtype, copy=True).contiguous() for factor in (left, right)))


def _joined(blocks: Sequence[_Block], whole: torch.Tensor, matrices: Sequence[EditedMatrix]) -> Factored:
    """The blocks and the rows of the `whole` map (out, in) that are in none of them."""
    taken = torch.cat([block.rows for block in blocks])
    left_over = torch.ones(len(whole), dtype=torch.bool)
    left_over[taken] = False
    rest = left_over.nonzero().flatten()
    order = torch.cat([taken, rest])  # the row of the map that each computed row is
    ordered = bool((order.diff() > 0).all())
    parts = {"weight": torch.cat([block.right for block in blocks])}
    parts |= {f"left.{number}": block.left for number, block in enumerate(blocks)}
    if len(rest):
        parts["rest"] = whole[rest]
    if not ordered:
        parts["places"] = order.argsort().to(torch.int32)
    shape = FactoredShape(
        in_features=whole.shape[1],
        out_features=whole.shape[0],
        blocks=tuple((block.left.shape[0], block.left.shape[1]) for block in blocks),
        rest=len(rest),
        ordered=ordered,
    )
    return Factored(shape, parts, matrices)
