"""Finds a model's matrices by structure: (τ, ℓ) -> weight.

The blocks are the longest list of modules; inside a block every linear map is named by the role its own name says it
has. There is no table per model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from laser_sweep.engine.models.fused import FUSED, fused_rows
from laser_sweep.engine.models.weight import Weight
from laser_sweep.errors import RequestError
from laser_sweep.trial import Matrix

ROLES: Mapping[str, tuple[str, ...]] = {
    "q_proj": ("q_proj", "query", "q_lin"),
    "k_proj": ("k_proj", "key", "k_lin"),
    "v_proj": ("v_proj", "value", "v_lin"),
    "out_proj": (
        "out_proj",
        "o_proj",
        "out_lin",
        "attn.c_proj",
        "attn.dense",
        "attention.dense",
        "attention.output.dense",
    ),
    "fc_in": ("fc_in", "gate_proj", "fc1", "lin1", "c_fc", "intermediate.dense", "dense_h_to_4h"),
    "fc_up": ("up_proj",),
    "fc_out": ("fc_out", "down_proj", "fc2", "lin2", "mlp.c_proj", "output.dense", "dense_4h_to_h"),
}
"""How the linear maps of a block end their names, by role; of two that fit, the longer one decides."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The matrices of one model: `num_layers` blocks, and the weight of each (τ, ℓ) that the model has.

    An expert's matrix is `fc_in.3`: the τ, and the number of the expert.
    """

    num_layers: int
    weights: Mapping[Matrix, Weight]

    @property
    def taus(self) -> tuple[str, ...]:
        """The matrix types that occur, in the order of `ROLES`; of experts, the type that stands for all of them."""
        present = {matrix.tau.partition(".")[0] for matrix in self.weights}
        return tuple(tau for tau in ROLES if tau in present)

    def matrices(self, tau: str, layer: int) -> tuple[Matrix, ...]:
        """The matrices that τ names in a layer: one, all experts' (`fc_in`), one expert's (`fc_in.3`), or none."""
        return tuple(m for m in self.weights if m.layer == layer and (m.tau == tau or m.tau.startswith(f"{tau}.")))

    def shape(self, matrix: Matrix) -> tuple[int, int]:
        """(out, in) of a matrix."""
        return self.weights[matrix].shape


def find_layout(model: PreTrainedModel) -> Layout:
    """Finds blocks and matrices.

    Raises RequestError where the model has no list of blocks with linear maps inside, where a block has two matrices of
    one role, and where a matrix is shared with another place of the model, which an edit would change too.
    """
    blocks = _blocks(model)
    weights: dict[Matrix, Weight] = {}
    for layer, block in enumerate(blocks):
        found = list(_weights(block, model))
        gated = any(tau.startswith("fc_in") for tau, _ in found)
        for tau, weight in found:
            # without a gate the map up is the one that reads the hidden states, whatever its name
            matrix = Matrix(tau if gated else tau.replace("fc_up", "fc_in"), layer)
            if matrix in weights:
                raise RequestError(f"{type(model).__name__} has two matrices that could be {matrix}")
            weights[matrix] = weight
    if not weights:
        raise RequestError(f"{type(model).__name__} has no list of blocks with linear maps that can be named")
    _refuse_shared(model, weights)
    return Layout(len(blocks), weights)


def _blocks(model: nn.Module) -> nn.ModuleList:
    """The longest list of modules that is not itself inside such a list: experts and branches are parts of a block."""
    outermost: list[nn.ModuleList] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not name.startswith(inside or ("\0",)):
            outermost.append(module)
            inside = (*inside, f"{name}.")
    return max(outermost, key=len, default=nn.ModuleList())


def _weights(block: nn.Module, model: PreTrainedModel) -> Iterator[tuple[str, Weight]]:
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield from _linear_weights(name, module, block, model)
        elif name.endswith("experts"):
            yield from _expert_weights(module, model)


def _linear_weights(
    name: str, linear: nn.Linear | Conv1D, block: nn.Module, model: PreTrainedModel
) -> Iterator[tuple[str, Weight]]:
    transposed = isinstance(linear, Conv1D)
    owner_name, _, last = name.rpartition(".")
    if last in FUSED:
        outputs = linear.weight.shape[1 if transposed else 0]
        for tau, rows in fused_rows(last, block.get_submodule(owner_name), outputs, model.config).items():
            yield tau, Weight(parameter=linear.weight, transposed=transposed, rows=rows)
        return
    role = _role(name)
    if role is not None:
        yield role, Weight(parameter=linear.weight, transposed=transposed)


def _expert_weights(experts: nn.Module, model: PreTrainedModel) -> Iterator[tuple[str, Weight]]:
    """The matrices of experts that are slices of one parameter (experts, out, in), or (experts, in, out)."""
    transposed = _are_transposed(experts)
    for name, parameter in experts.named_parameters(recurse=False):
        if parameter.ndim != 3:
            continue
        outputs = parameter.shape[2 if transposed else 1]
        fused = name in FUSED and getattr(experts, "has_gate", True)
        parts = fused_rows(name, experts, outputs, model.config) if fused else {_role(name): None}
        for expert in range(parameter.shape[0]):
            for tau, rows in parts.items():
                if tau is not None:
                    weight = Weight(parameter=parameter, transposed=transposed, expert=expert, rows=rows)
                    yield f"{tau}.{expert}", weight


def _are_transposed(experts: nn.Module) -> bool:
    """Whether experts are (experts, in, out): as they say, or as their shapes show where they do not (Llama 4)."""
    said = getattr(experts, "is_transposed", None)
    gate_up, down = (getattr(experts, name, None) for name in ("gate_up_proj", "down_proj"))
    if said is None and gate_up is not None and down is not None:
        return bool(gate_up.shape[1] == down.shape[2])  # both are the hidden size; the other way round, 2 m and m
    return bool(said)


def _role(name: str) -> str | None:
    """The τ whose ending fits the dotted name of a linear map inside a block."""
    fits = [
        (len(ending), tau)
        for tau, endings in ROLES.items()
        for ending in endings
        if name == ending or name.endswith((f".{ending}", f"_{ending}"))
    ]
    return max(fits)[1] if fits else None


def _refuse_shared(model: nn.Module, weights: Mapping[Matrix, Weight]) -> None:
    places = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    for matrix, weight in weights.items():
        if places[id(weight.parameter)] > 1:
            raise RequestError(
                f"{matrix} of {type(model).__name__} is shared with another part of the model, "
                "so an edit would not stay in its layer"
            )
