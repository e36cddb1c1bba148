"""Finds a model's matrices by structure: (τ, ℓ) -> weight.

The blocks are the longest list of modules; inside a block every linear map is named by the role its own name says it
has, or the person's own `model.roles` say. There is no table per model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from laser_sweep.engine.models.fused import FUSED, fused_rows
from laser_sweep.engine.models.spec import Roles
from laser_sweep.engine.models.weight import Weight
from laser_sweep.errors import RequestError, listing
from laser_sweep.trial import GROUPS, Matrix

ROLES: Mapping[str, tuple[str, ...]] = {
    "q_proj": ("q_proj", "query", "q_lin", "self.query_proj"),
    "k_proj": ("k_proj", "key", "k_lin", "self.key_proj"),
    "v_proj": ("v_proj", "value", "v_lin", "self.value_proj"),
    "out_proj": (
        "out_proj",
        "o_proj",
        "out_lin",
        "attn.c_proj",
        "attn.dense",
        "attention.dense",
        "attention.output.dense",
        "attn.Wo",
    ),
    "fc_in": ("fc_in", "gate_proj", "fc1", "lin1", "c_fc", "intermediate.dense", "dense_h_to_4h"),
    "fc_up": ("up_proj",),
    "fc_out": ("fc_out", "down_proj", "fc2", "lin2", "mlp.c_proj", "output.dense", "dense_4h_to_h", "mlp.Wo"),
}
"""How the linear maps of a block end their names, by role; of two that fit, the longer one decides."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a block is made of: the module that holds all matrices of its attention, and those that hold its MLP's.

    `attention` is None where no direct part of the block holds these matrices and no others.
    """

    attention: nn.Module | None
    mlp: tuple[nn.Module, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The matrices of one model: its blocks, in order, and the weight of each (τ, ℓ) that the model has.

    An expert's matrix is `fc_in.3`: the τ, and the number of the expert.
    """

    blocks: tuple[nn.Module, ...]
    weights: Mapping[Matrix, Weight]

    @property
    def num_layers(self) -> int:
        return len(self.blocks)

    @property
    def taus(self) -> tuple[str, ...]:
        """The matrix types that occur, in the order of `ROLES`; of experts, the type that stands for all of them."""
        present = {matrix.tau.partition(".")[0] for matrix in self.weights}
        return tuple(tau for tau in ROLES if tau in present)

    def matrices(self, tau: str, layer: int) -> tuple[Matrix, ...]:
        """The matrices that τ names in a layer: one, all experts' (`fc_in`), one expert's (`fc_in.3`), or none."""
        return tuple(m for m in self.weights if m.layer == layer and (m.tau == tau or m.tau.startswith(f"{tau}.")))

    def parts(self, layer: int) -> Parts:
        """Attention and MLP of a block."""
        owners = {id(w.parameter): m.tau.partition(".")[0] for m, w in self.weights.items() if m.layer == layer}
        held = {
            child: {owners.get(id(p)) for p in child.parameters()} - {None} for child in self.blocks[layer].children()
        }
        attention = [child for child, taus in held.items() if taus & set(GROUPS["attn"])]
        mlp = tuple(child for child, taus in held.items() if taus and taus <= set(GROUPS["mlp"]))
        whole = len(attention) == 1 and held[attention[0]] <= set(GROUPS["attn"])
        return Parts(attention[0] if whole else None, mlp)

    def shape(self, matrix: Matrix) -> tuple[int, int]:
        """(out, in) of a matrix."""
        return self.weights[matrix].shape


def find_layout(model: PreTrainedModel, roles: Roles = ()) -> Layout:
    """Finds blocks and matrices. A linear map whose name ends as `roles` say has their τ, whatever its name says.

    Raises RequestError where the model has no list of blocks with linear maps inside, where a block has two matrices of
    one role, where an ending of `roles` fits none, and where a matrix is at work in another place of the model, which
    an edit would change too.
    """
    blocks = find_blocks(model)
    _refuse_unfit(model, blocks, roles)
    weights: dict[Matrix, Weight] = {}
    for layer, block in enumerate(blocks):
        found = list(_weights(block, model, roles))
        gated = any(tau.startswith("fc_in") for tau, _ in found) or "fc_up" in dict(roles)
        for tau, weight in found:
            # without a gate the map up is the one that reads the hidden states, whatever its name
            matrix = Matrix(tau if gated else tau.replace("fc_up", "fc_in"), layer)
            if matrix in weights:
                raise RequestError(f"{type(model).__name__} has two matrices that could be {matrix}")
            weights[matrix] = weight
    if not weights:
        names = _names(blocks)
        hint = f"; say which is which with +model.roles.fc_in=[<ending>], of {_shown(names)}" if names else ""
        raise RequestError(f"{type(model).__name__} has no list of blocks with linear maps that can be named{hint}")
    _refuse_shared(model, weights)
    _refuse_repeated(model, blocks)
    return Layout(tuple(blocks), weights)


def find_blocks(model: nn.Module) -> nn.ModuleList:
    """The longest list of modules that is not itself inside such a list: experts and branches are parts of a block."""
    outermost: list[nn.ModuleList] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not name.startswith(inside or ("\0",)):
            outermost.append(module)
            inside = (*inside, f"{name}.")
    return max(outermost, key=len, default=nn.ModuleList())


def _weights(block: nn.Module, model: PreTrainedModel, roles: Roles) -> Iterator[tuple[str, Weight]]:
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield from _linear_weights(name, module, block, model, roles)
        elif name.endswith("experts"):
            yield from _expert_weights(name, module, model, roles)


def _linear_weights(
    name: str, linear: nn.Linear | Conv1D, block: nn.Module, model: PreTrainedModel, roles: Roles
) -> Iterator[tuple[str, Weight]]:
    transposed = isinstance(linear, Conv1D)
    owner_name, _, last = name.rpartition(".")
    role = _role(name, roles)
    if role is None and last in FUSED:
        outputs = linear.weight.shape[1 if transposed else 0]
        for tau, rows in fused_rows(last, block.get_submodule(owner_name), outputs, model.config).items():
            yield tau, Weight(parameter=linear.weight, transposed=transposed, rows=rows)
        return
    role = role or _role(name, ROLES.items())
    if role is not None:
        yield role, Weight(parameter=linear.weight, transposed=transposed)


def _expert_weights(
    path: str, experts: nn.Module, model: PreTrainedModel, roles: Roles
) -> Iterator[tuple[str, Weight]]:
    """The matrices of experts that are slices of one parameter (experts, out, in), or (experts, in, out)."""
    transposed = _are_transposed(experts)
    for name, parameter in experts.named_parameters(recurse=False):
        if parameter.ndim != 3:
            continue
        outputs = parameter.shape[2 if transposed else 1]
        role = _role(f"{path}.{name}", roles)
        fused = role is None and name in FUSED and getattr(experts, "has_gate", True)
        named = {role or _role(name, ROLES.items()): None}
        parts = fused_rows(name, experts, outputs, model.config) if fused else named
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


def _role(name: str, roles: Iterable[tuple[str, tuple[str, ...]]]) -> str | None:
    """The τ whose ending fits the dotted name of a linear map inside a block."""
    fits = [(len(ending), tau) for tau, endings in roles for ending in endings if _ends(name, ending)]
    return max(fits)[1] if fits else None


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith((f".{ending}", f"_{ending}"))


def _names(blocks: nn.ModuleList) -> list[str]:
    """How the linear maps of the blocks are called, experts' included."""
    names: dict[str, None] = {}
    for block in blocks:
        for name, module in block.named_modules():
            if isinstance(module, nn.Linear | Conv1D):
                names[name] = None
            elif name.endswith("experts"):
                parameters = module.named_parameters(recurse=False)
                names.update({f"{name}.{own}": None for own, parameter in parameters if parameter.ndim == 3})
    return list(names)


def _shown(names: Iterable[str]) -> str:
    """The names in a message; experts in a list are shown once."""
    return listing(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))


def _refuse_unfit(model: nn.Module, blocks: nn.ModuleList, roles: Roles) -> None:
    names = _names(blocks) if roles else []
    for tau, endings in roles:
        for ending in endings:
            if names and not any(_ends(name, ending) for name in names):
                raise RequestError(
                    f"model.roles.{tau}=[{ending}] fits no linear map in a block of {type(model).__name__}, "
                    f"which has {_shown(names)}"
                )


def _refuse_shared(model: nn.Module, weights: Mapping[Matrix, Weight]) -> None:
    places = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    for matrix, weight in weights.items():
        if places[id(weight.parameter)] > 1:
            raise RequestError(
                f"{matrix} of {type(model).__name__} is shared with another part of the model, "
                "so an edit would not stay in its layer"
            )


def _refuse_repeated(model: PreTrainedModel, blocks: nn.ModuleList) -> None:
    """ALBERT has one block and applies it as often as its configuration says there are layers."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and len(blocks) < layers:
        raise RequestError(
            f"the weights of {type(model).__name__} are shared: it applies {len(blocks)} "
            f"block{'s' if len(blocks) > 1 else ''} as {layers} layers, so an edit would not stay in its layer"
        )
