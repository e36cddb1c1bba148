"""Finds a model's matrices by structure: (τ, ℓ) -> weight.

The blocks are the longest list of modules; inside a block every linear map is named by the role its own name says it
has. There is no table per model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from laser_sweep.errors import RequestError
from laser_sweep.trial import Matrix

ROLES: Mapping[str, tuple[str, ...]] = {
    "q_proj": ("q_proj", "query", "q_lin"),
    "k_proj": ("k_proj", "key", "k_lin"),
    "v_proj": ("v_proj", "value", "v_lin"),
    "out_proj": ("out_proj", "o_proj", "attention.output.dense", "attn.c_proj", "self_attn.dense", "attention.dense"),
    "fc_in": ("fc_in", "gate_proj", "fc1", "c_fc", "intermediate.dense", "dense_h_to_4h"),
    "fc_up": ("up_proj",),
    "fc_out": ("fc_out", "down_proj", "fc2", "mlp.c_proj", "output.dense", "dense_4h_to_h"),
}
"""How the linear maps of a block end their names, by role; of two that fit, the longer one decides."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter that holds one matrix; `transposed` where it is stored (in, out), as in transformers' Conv1D."""

    parameter: torch.Tensor
    transposed: bool

    def view(self) -> torch.Tensor:
        """The matrix as (out, in), sharing storage with the parameter: writing to it edits the model."""
        data = self.parameter.data
        return data.T if self.transposed else data


@dataclass(frozen=True, slots=True)
class Layout:
    """The matrices of one model: `num_layers` blocks, and the weight of each (τ, ℓ) that the model has."""

    num_layers: int
    weights: Mapping[Matrix, Weight]

    @property
    def taus(self) -> tuple[str, ...]:
        """The matrix types that occur, in the order of `ROLES`."""
        present = {matrix.tau for matrix in self.weights}
        return tuple(tau for tau in ROLES if tau in present)

    def shape(self, matrix: Matrix) -> tuple[int, int]:
        """(out, in) of a matrix."""
        rows, columns = self.weights[matrix].view().shape
        return rows, columns


def find_layout(model: PreTrainedModel) -> Layout:
    """Finds blocks and matrices. Raises RequestError where the model has no list of blocks with linear maps inside."""
    blocks = _longest_module_list(model)
    weights = {
        Matrix(tau, layer): Weight(linear.weight, isinstance(linear, Conv1D))
        for layer, block in enumerate(blocks)
        for tau, linear in _linear_maps(block)
    }
    if not weights:
        raise RequestError(f"{type(model).__name__} has no list of blocks with linear maps that can be named")
    return Layout(len(blocks), weights)


def _longest_module_list(model: nn.Module) -> nn.ModuleList:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len, default=nn.ModuleList())


def _linear_maps(block: nn.Module) -> Iterator[tuple[str, nn.Linear | Conv1D]]:
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            tau = _role(name)
            if tau is not None:
                yield tau, module


def _role(name: str) -> str | None:
    """The τ whose ending fits the dotted name of a linear map inside a block."""
    fits = [
        (len(ending), tau)
        for tau, endings in ROLES.items()
        for ending in endings
        if name == ending or name.endswith("." + ending)
    ]
    return max(fits)[1] if fits else None
