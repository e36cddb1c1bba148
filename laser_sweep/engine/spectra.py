"""The singular values of a model's matrices, and what a loss is found to do along their directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.evaluation.directions import Directions
from laser_sweep.engine.models.layout import Layout
from laser_sweep.probe import Slopes, Spectrum
from laser_sweep.trial import Matrix


def spectra(
    matrices: Sequence[Matrix],
    layout: Layout,
    editor: Editor,
    slopes: Callable[[Mapping[Matrix, Directions]], Mapping[Matrix, Slopes]],
    *,
    max_bytes: int,
) -> tuple[Spectrum, ...]:
    """A spectrum for each matrix, in order, with the slopes that `slopes` finds for it, if it finds any.

    It is asked for as many matrices at a time as have singular vectors of at most `max_bytes`, layer by layer. Raises
    ValueError where the model does not have a matrix or where it cannot be decomposed.
    """
    for matrix in matrices:
        if matrix not in layout.weights:
            raise ValueError(f"the model has no {matrix}")
    found: dict[Matrix, Spectrum] = {}
    for group in _together(matrices, layout, max_bytes):
        directions = {matrix: _directions(matrix, layout, editor) for matrix in group}
        along = slopes(directions)
        for matrix, one in directions.items():
            found[matrix] = Spectrum(
                matrix=matrix,
                shape=layout.shape(matrix),
                singular_values=one.singular_values.cpu().numpy().copy(),
                slopes=along.get(matrix),
            )
    return tuple(found[matrix] for matrix in matrices)


def _directions(matrix: Matrix, layout: Layout, editor: Editor) -> Directions:
    factors, weight = editor.factors(matrix), layout.weights[matrix]
    device = weight.parameter.device  # factors that come from a file are in the host's memory
    return Directions(weight, factors.basis.to(device), factors.singular_values.to(device))


def _together(matrices: Sequence[Matrix], layout: Layout, max_bytes: int) -> Iterator[list[Matrix]]:
    group: list[Matrix] = []
    held = 0
    for matrix in sorted(matrices, key=lambda matrix: matrix.layer):
        size = min(layout.shape(matrix)) ** 2 * max(4, layout.weights[matrix].parameter.element_size())
        if group and held + size > max_bytes:
            yield group
            group, held = [], 0
        group.append(matrix)
        held += size
    if group:
        yield group
