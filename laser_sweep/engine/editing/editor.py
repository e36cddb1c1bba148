"""Applies edits to a model's weights in place and reverts them bit for bit."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from laser_sweep.engine.editing.factor import Factors, factorise
from laser_sweep.engine.editing.methods import METHODS, kept_rank
from laser_sweep.engine.models.layout import Layout
from laser_sweep.trial import Edit, Matrix

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHECKSUM_ROWS = 512
# Odd 64-bit constants, as signed integers: the golden ratio's, and those of MurmurHash3's finaliser.
_PLACE = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIERS = (0xFF51AFD7ED558CCD - (1 << 64), 0xC4CEB9FE1A85EC53 - (1 << 64))
_LOW_BITS = (1 << 31) - 1  # what a logical shift by 33 leaves; torch shifts signs in


class RestoreError(RuntimeError):
    """A weight is not what it was before an edit; the model must not be used any more."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an edit cost, in seconds, and the rank that each edited matrix kept (None where the method has none)."""

    ranks: tuple[int | None, ...]
    seconds_factor: float
    seconds_edit: float


class Editor:
    """Edits the weights of one model.

    Keeps the factors of the `cached_matrices` last used matrices, so that all ρ of a matrix cost one decomposition, and
    a checksum of every matrix it ever touched, taken before the first edit.
    """

    def __init__(self, layout: Layout, *, cached_matrices: int = 8) -> None:
        self._layout = layout
        self._cached_matrices = cached_matrices
        self._factors: OrderedDict[Matrix, Factors] = OrderedDict()
        self._checksums: dict[Matrix, int] = {}

    @contextmanager
    def applied(self, edits: Sequence[Edit]) -> Iterator[Applied]:
        """The edits are in place inside the `with` block and gone after it, also when the block raises.

        The parameter's storage stays where it is. Weights are computed in float32 (float64 for float64 models) and cast
        to the model's dtype. Raises ValueError before anything is changed where an edit cannot be computed,
        RestoreError where a weight does not come back.
        """
        views = [self._layout.weights[edit.matrix].view() for edit in edits]
        for edit, view in zip(edits, views, strict=True):
            self._checksums.setdefault(edit.matrix, checksum(view))
        seconds_factor = 0.0

        def factors_of(matrix: Matrix, view: torch.Tensor) -> Factors:
            nonlocal seconds_factor
            started = time.perf_counter()
            factors = self._cached_factors(matrix, view)
            seconds_factor += time.perf_counter() - started
            return factors

        started = time.perf_counter()
        replacements = []
        for edit, view in zip(edits, views, strict=True):
            method = METHODS[edit.method]
            replacement = method(view, edit, lambda matrix=edit.matrix, view=view: factors_of(matrix, view))  # type: ignore[misc]
            if not torch.isfinite(replacement).all():
                raise ValueError(f"{edit.method} of {edit.matrix} gives entries that are not finite")
            replacements.append(replacement)
        originals = [view.clone() for view in views]
        try:
            for view, replacement in zip(views, replacements, strict=True):
                view.copy_(replacement)
            del replacements
            seconds_edit = time.perf_counter() - started - seconds_factor
            ranks = tuple(kept_rank(edit, *view.shape) for edit, view in zip(edits, views, strict=True))
            yield Applied(ranks, seconds_factor, seconds_edit)
        finally:
            for view, original in zip(views, originals, strict=True):
                view.copy_(original)
            for edit, view in zip(edits, views, strict=True):
                if checksum(view) != self._checksums[edit.matrix]:
                    raise RestoreError(f"{edit.matrix} did not come back bit for bit after an edit")

    def _cached_factors(self, matrix: Matrix, view: torch.Tensor) -> Factors:
        if matrix in self._factors:
            self._factors.move_to_end(matrix)
            return self._factors[matrix]
        factors = factorise(view)
        self._factors[matrix] = factors
        while len(self._factors) > self._cached_matrices:
            self._factors.popitem(last=False)
        return factors


def checksum(weight: torch.Tensor) -> int:
    """A 64-bit number over the bits of a matrix and their places: another matrix has it with a chance of about 2^-64.

    The sum, modulo 2^64, of a mix of every entry's bits with its place (the finaliser of MurmurHash3).
    """
    total = 0
    position = 0
    for rows in weight.split(_CHECKSUM_ROWS):
        bits = rows.contiguous().view(_INTEGERS[weight.element_size()]).flatten().to(torch.int64)
        mixed = bits + torch.arange(position, position + bits.numel(), device=bits.device) * _PLACE
        for multiplier in _MULTIPLIERS:
            mixed ^= (mixed >> 33) & _LOW_BITS
            mixed *= multiplier
        mixed ^= (mixed >> 33) & _LOW_BITS
        total += int(mixed.sum())
        position += bits.numel()
    return total % (1 << 64)
