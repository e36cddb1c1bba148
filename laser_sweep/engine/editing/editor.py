"""Applies edits to a model's weights in place and reverts them bit for bit."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from laser_sweep.engine.editing.cache import FactorCache
from laser_sweep.engine.editing.clusters import consecutive_blocks
from laser_sweep.engine.editing.factor import Factors, factorise
from laser_sweep.engine.editing.methods import METHODS, Replacement
from laser_sweep.engine.models.layout import Layout
from laser_sweep.engine.models.weight import Weight
from laser_sweep.trial import Edit, Footprint, Matrix

_CHUNK_CPU = 1 << 15  # words of a checksum at a time: what a core's cache holds
_CHUNK_DEVICE = 1 << 24  # and a device's memory, at 128 MB an intermediate
# Odd 64-bit constants, as signed integers: the golden ratio's, and those of MurmurHash3's finaliser.
_PLACE = 0x9E3779B97F4A7C15 - (1 << 64)
_MULTIPLIERS = (0xFF51AFD7ED558CCD - (1 << 64), 0xC4CEB9FE1A85EC53 - (1 << 64))
_LOW_BITS = (1 << 31) - 1  # what a logical shift by 33 leaves; torch shifts signs in


class RestoreError(RuntimeError):
    """A weight is not what it was before an edit; the model must not be used any more."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What edits cost, in seconds, and what each edited matrix is made of."""

    footprints: tuple[Footprint, ...]
    seconds_factor: float
    seconds_edit: float


class _Timer:
    """Adds up seconds under names."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"edit": 0.0, "factor": 0.0}

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started


class Editor:
    """Edits the weights of one model.

    Keeps the factors of the `cached_matrices` last used matrices, so that all ρ of a matrix cost one decomposition, and
    a checksum of every matrix it ever touched, taken before the first edit. A matrix in another number of blocks counts
    as another matrix. With a `cache` a decomposition serves every process and sweep that meets the same matrix, or the
    same block of one.
    """

    def __init__(self, layout: Layout, *, cached_matrices: int = 8, cache: FactorCache | None = None) -> None:
        self._layout = layout
        self._cached_matrices = cached_matrices
        self._cache = cache
        self._factors: OrderedDict[tuple[Matrix, int], tuple[Factors, ...]] = OrderedDict()
        self._checksums: dict[Matrix, int] = {}

    @contextmanager
    def applied(self, edits: Sequence[Edit]) -> Iterator[Applied]:
        """The edits are in place inside the `with` block and gone after it, also when the block raises.

        The parameter's storage stays where it is. Weights are computed in float32 (float64 for float64 models) and cast
        to the model's dtype. Raises ValueError where an edit cannot be computed, RestoreError where a weight does not
        come back.
        """
        self.check(edits)
        originals: list[tuple[Matrix, torch.Tensor]] = []
        timer = _Timer()
        try:
            with timer.running("edit"):
                footprints = tuple(self._apply(edit, originals, timer) for edit in edits)
            yield Applied(footprints, timer.seconds["factor"], timer.seconds["edit"] - timer.seconds["factor"])
        finally:
            for matrix, original in reversed(originals):
                self._layout.weights[matrix].write(original)
            for matrix, _ in originals:
                if checksum(self._layout.weights[matrix].read()) != self._checksums[matrix]:
                    raise RestoreError(f"{matrix} did not come back bit for bit after an edit")

    def check(self, edits: Sequence[Edit]) -> None:
        """Raises ValueError for an edit of a matrix that the model does not have."""
        for edit in edits:
            self._weight(edit.matrix)

    def factors(self, matrix: Matrix) -> Factors:
        """The factors of a matrix, which must not be edited at the moment.

        Raises ValueError where the model does not have it or where it cannot be decomposed.
        """
        weight = self._weight(matrix).read()
        if matrix not in self._checksums:
            self._checksums[matrix] = checksum(weight)
        (whole,) = self._cached_factors(matrix, weight, 1)
        return whole

    def replacement(self, edit: Edit) -> Replacement:
        """What an edit makes of its matrix, which must not be edited at the moment. The model stays as it is.

        Raises ValueError as `applied` does.
        """
        return self._replacement(edit, self._weight(edit.matrix).read().clone(), _Timer())

    def _weight(self, matrix: Matrix) -> Weight:
        if matrix not in self._layout.weights:
            raise ValueError(f"the model has no {matrix}")
        return self._layout.weights[matrix]

    def _apply(self, edit: Edit, originals: list[tuple[Matrix, torch.Tensor]], timer: _Timer) -> Footprint:
        """Edits one matrix and says what it is made of; `originals` gets what it was."""
        weight = self._layout.weights[edit.matrix]
        original = weight.read().clone()
        self._checksums.setdefault(edit.matrix, checksum(original))
        replacement = self._replacement(edit, original, timer)
        originals.append((edit.matrix, original))
        weight.write(replacement.weight)
        return replacement.footprint

    def _replacement(self, edit: Edit, original: torch.Tensor, timer: _Timer) -> Replacement:
        """What an edit makes of a matrix, in the matrix's dtype."""
        matrix = edit.matrix

        def factors(clusters: int) -> tuple[Factors, ...]:
            with timer.running("factor"):
                return self._cached_factors(matrix, original, clusters)

        replacement = METHODS[edit.method](original, edit, factors)
        replaced = replacement.weight.to(original.dtype)
        if not torch.isfinite(replaced).all():
            raise ValueError(f"{edit.method} of {matrix} gives entries that are not finite in {original.dtype}")
        return replace(replacement, weight=replaced)

    def _cached_factors(self, matrix: Matrix, weight: torch.Tensor, clusters: int) -> tuple[Factors, ...]:
        """The factors of each block of consecutive rows; `weight` is the matrix as it is when not edited."""
        key = matrix, clusters
        if key not in self._factors:
            self._factors[key] = tuple(self._decomposed(block) for block in consecutive_blocks(weight, clusters))
        self._factors.move_to_end(key)
        while len(self._factors) > self._cached_matrices:
            self._factors.popitem(last=False)
        return self._factors[key]

    def _decomposed(self, block: torch.Tensor) -> Factors:
        if self._cache is None:
            return factorise(block)
        rows, columns = block.shape
        key = f"gram-{checksum(block):016x}-{rows}x{columns}-{str(block.dtype).removeprefix('torch.')}"
        return self._cache.get(key, (rows, columns), lambda: factorise(block))


def checksum(weight: torch.Tensor) -> int:
    """A 64-bit number over the bits of a matrix and their places: another matrix has it with a chance of about 2^-64.

    The sum, modulo 2^64, of a mix of every 8 bytes with their place (the finaliser of MurmurHash3).
    """
    chunk = _CHUNK_CPU if weight.device.type == "cpu" else _CHUNK_DEVICE
    total = torch.zeros((), dtype=torch.int64, device=weight.device)
    for number, words in enumerate(_words(weight).split(chunk)):
        mixed = torch.arange(number * chunk, number * chunk + len(words), device=weight.device).mul_(_PLACE).add_(words)
        for multiplier in _MULTIPLIERS:
            mixed.bitwise_xor_((mixed >> 33).bitwise_and_(_LOW_BITS)).mul_(multiplier)
        mixed.bitwise_xor_((mixed >> 33).bitwise_and_(_LOW_BITS))
        total += mixed.sum()
    return int(total) % (1 << 64)


def _words(weight: torch.Tensor) -> torch.Tensor:
    """The bits of a matrix as 64-bit integers, filled up with zeros."""
    flat = weight.contiguous().flatten()
    per_word = 8 // weight.element_size()
    if flat.numel() % per_word or flat.storage_offset() % per_word:
        flat = torch.cat([flat, flat.new_zeros(-flat.numel() % per_word)])
    return flat.view(torch.int64)
