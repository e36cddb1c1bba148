"""The gradients of a model's losses by the singular values of its matrices, slow but obvious."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from laser_sweep.engine.models.weight import Weight
from laser_sweep.trial import Matrix


@dataclass(frozen=True)
class Question:
    """At `positions` of `input_ids` the model should say `targets`; the loss is -log p of them / `length`."""

    input_ids: Sequence[int]
    positions: Sequence[int]
    targets: Sequence[int]
    length: int = 1


@dataclass(frozen=True)
class Differentiated:
    """The loss of each question (questions,) and its gradients by the singular values of each matrix (questions, r)."""

    losses: torch.Tensor
    gradients: Mapping[Matrix, torch.Tensor]


def differentiate(
    model: PreTrainedModel, weights: Mapping[Matrix, Weight], questions: Sequence[Question]
) -> Differentiated:
    """One pass for each question of a float64 model in which each matrix is U diag(s) Vᵀ; autograd gives dL/ds."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    spectra: dict[Matrix, torch.Tensor] = {}
    replaced: dict[str, torch.Tensor] = {}
    for matrix, weight in weights.items():
        left, values, right = torch.linalg.svd(weight.read(), full_matrices=False)
        spectra[matrix] = values.requires_grad_()
        name = names[id(weight.parameter)]
        whole = replaced.get(name, weight.parameter.detach()).clone()
        part = whole if weight.expert is None else whole[weight.expert]
        part = part.T if weight.transposed else part
        part[slice(None) if weight.rows is None else weight.rows] = left @ torch.diag(values) @ right
        replaced[name] = whole
    losses, found = [], []
    for question in questions:
        inputs = {"input_ids": torch.tensor([list(question.input_ids)])}
        logits = torch.func.functional_call(model, replaced, kwargs=inputs).logits[0]
        log_probs = logits[list(question.positions)].log_softmax(dim=-1)
        loss = -sum(log_probs[place, target] for place, target in enumerate(question.targets)) / question.length
        found.append(torch.autograd.grad(loss, list(spectra.values()), retain_graph=True, materialize_grads=True))
        losses.append(loss.detach())
    gradients = {matrix: torch.stack(rows) for matrix, rows in zip(spectra, zip(*found, strict=True), strict=True)}
    return Differentiated(torch.stack(losses), gradients)
