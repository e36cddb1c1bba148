"""In which tensor of a checkpoint's files a matrix of the model stands.

transformers may rename tensors when it loads them, and may put several together: the experts of Mixtral are a file's
`experts.3.w1.weight`, and one parameter of the model. What it says of that is asked here, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from laser_sweep.engine.models.layout import Layout
from laser_sweep.engine.models.weight import Weight
from laser_sweep.errors import RequestError
from laser_sweep.export.files import StoredTensor
from laser_sweep.trial import Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a matrix stands: a tensor of the files and the part of it, as in `Weight`; `parameter` is the model's."""

    tensor: StoredTensor
    parameter: str
    transposed: bool = False
    expert: int | None = None
    rows: torch.Tensor | None = None

    def weight(self, values: torch.Tensor) -> Weight:
        """The matrix inside the values of the tensor."""
        return Weight(parameter=values, transposed=self.transposed, expert=self.expert, rows=self.rows)


def find_places(
    model: PreTrainedModel, layout: Layout, matrices: Iterable[Matrix], tensors: Iterable[StoredTensor]
) -> dict[Matrix, Place]:
    """The places of matrices; `model` may be without weights.

    Raises RequestError for a matrix that the model does not have, and for one that the files do not hold as such.
    """
    sources = _sources(model, list(tensors))
    names = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    places = {}
    for matrix in matrices:
        if matrix not in layout.weights:
            raise RequestError(f"{type(model).__name__} has no {matrix}")
        weight = layout.weights[matrix]
        parameter = names[id(weight.parameter)]
        if parameter not in sources:
            raise RequestError(f"no file of the base model holds {parameter}, where {matrix} stands")
        places[matrix] = sources[parameter].place(matrix, weight, parameter)
    return places


@dataclass(frozen=True, slots=True)
class _Sources:
    """The tensors of the files that a parameter is made of: `stacks[i][e]` is the i-th part of the e-th expert.

    One tensor is the parameter itself where `whole` is true. `how` says what transformers does where that is more than
    stacking experts whose parts follow one another.
    """

    stacks: Sequence[Sequence[StoredTensor]]
    whole: bool
    how: str = ""

    def place(self, matrix: Matrix, weight: Weight, parameter: str) -> Place:
        if self.how:
            raise RequestError(
                f"transformers makes {parameter}, where {matrix} stands, of tensors like {self.stacks[0][0].name} by "
                f"{self.how}, which an export does not undo"
            )
        if self.whole:
            ((tensor,),) = self.stacks
            if tensor.shape != tuple(weight.parameter.shape):
                raise RequestError(
                    f"{tensor.name} has the shape {list(tensor.shape)} in {tensor.file.name} and "
                    f"{list(weight.parameter.shape)} in the model, so {matrix} cannot be found in it"
                )
            return Place(
                tensor=tensor,
                parameter=parameter,
                transposed=weight.transposed,
                expert=weight.expert,
                rows=weight.rows,
            )
        return self._of_expert(matrix, weight, parameter)

    def _of_expert(self, matrix: Matrix, weight: Weight, parameter: str) -> Place:
        """Of parts (rows, in) that follow one another the one that has the matrix's rows."""
        experts, outputs, _ = weight.parameter.shape
        sizes = [stack[0].shape[0] for stack in self.stacks]
        fits = all(len(stack) == experts for stack in self.stacks) and sum(sizes) == outputs
        if weight.expert is None or weight.transposed or not fits:
            raise RequestError(f"{matrix} cannot be found in tensors like {self.stacks[0][0].name}")
        rows = torch.arange(outputs) if weight.rows is None else weight.rows.cpu()
        start = 0
        for stack, size in zip(self.stacks, sizes, strict=True):
            inside = (rows >= start) & (rows < start + size)
            if inside.all():
                own = rows - start
                whole = torch.equal(own, torch.arange(size))
                return Place(tensor=stack[weight.expert], parameter=parameter, rows=None if whole else own)
            start += size
        raise RequestError(f"{matrix} is spread over several tensors of the files, e.g. {self.stacks[0][0].name}")


def _sources(model: PreTrainedModel, tensors: Sequence[StoredTensor]) -> Mapping[str, _Sources]:
    """By parameter, as transformers finds it out when it loads the files."""
    conversions = get_model_conversion_mapping(model)
    renamings = [one for one in conversions if isinstance(one, WeightRenaming)]
    converters = [one for one in conversions if isinstance(one, WeightConverter)]
    state = model.state_dict()
    prefix = model.base_model_prefix
    collected: dict[str, dict[str | None, list[StoredTensor]]] = {}
    for tensor in sorted(tensors, key=lambda one: dot_natural_key(one.name)):
        name, pattern = rename_source_key(tensor.name, renamings, converters, prefix, state)
        if name not in state and tensor.name in state:
            name, pattern = tensor.name, None
        if name in state:
            collected.setdefault(name, {}).setdefault(pattern, []).append(tensor)
    return {name: _sources_of(name, found, converters) for name, found in collected.items()}


def _sources_of(
    name: str, found: Mapping[str | None, list[StoredTensor]], converters: Sequence[WeightConverter]
) -> _Sources:
    if set(found) == {None}:
        return _Sources([found[None][:1]], whole=True)
    patterns = [pattern for pattern in found if pattern is not None]
    converter = next(one for one in converters if patterns[0] in one.source_patterns)
    kinds = [(type(one), getattr(one, "dim", None)) for one in converter.operations]
    stacked = [(MergeModulelist, 0)]
    known = kinds == stacked or (kinds == [*stacked, (Concatenate, 1)])
    complete = all(pattern in found for pattern in converter.source_patterns) and None not in found
    stacks = [found[pattern] for pattern in converter.source_patterns if pattern in found]
    how = "" if known and complete else ", ".join(kind.__name__ for kind, _ in kinds)
    return _Sources(stacks, whole=False, how=how)
