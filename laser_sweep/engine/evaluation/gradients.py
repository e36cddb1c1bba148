"""The gradient of each example's log-loss along the singular directions of a model's matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from laser_sweep.engine.evaluation.batches import Batch, Collator, halved_when_full
from laser_sweep.engine.evaluation.directions import Directions
from laser_sweep.engine.evaluation.forward import Forward
from laser_sweep.engine.evaluation.packing import alone
from laser_sweep.engine.evaluation.slopes import SlopesTally
from laser_sweep.engine.tasks.tokenise import Encoded
from laser_sweep.probe import Slopes
from laser_sweep.trial import Matrix

_SHARE = 8  # of the tokens of a batch that is only scored: the activations of all blocks wait for the way back
_LARGEST_SCALE = 2.0**15  # times the gradient of a logit, which is at most 1, it is finite in float16
_SCALE_STEP = 2.0**3


def slopes(
    forward: Forward,
    collator: Collator,
    encoded: Sequence[Encoded],
    directions: Mapping[Matrix, Directions],
    *,
    batch_tokens: int,
) -> dict[Matrix, Slopes]:
    """The slopes of the log-loss of `Metrics` along the directions of each matrix.

    A batch has at most an eighth of `batch_tokens` tokens. Raises ValueError where a loss or a gradient is not finite,
    and where gradients do not reach a matrix.
    """
    gradients = Gradients(forward, collator, directions)
    tallies = {matrix: SlopesTally(one.singular_values) for matrix, one in directions.items()}
    lengths = torch.tensor([one.gold_length for one in encoded])
    losses = torch.empty(len(encoded), dtype=torch.float64)
    spoilt = dict.fromkeys(directions, 0)

    def add(batch: Batch) -> None:
        places = list(batch.indices)
        losses[places], found = gradients.of(batch, lengths[places])
        for matrix, values in found.items():
            tallies[matrix].add(values)
            spoilt[matrix] += int((~values.isfinite()).any(dim=-1).sum())

    rows = alone([one.passages[one.gold] for one in encoded])
    most = 1 if gradients.one_by_one else batch_tokens // _SHARE
    halved_when_full(collator.batches(rows, most), add, collator.halves)
    if not losses.isfinite().all():
        raise ValueError(f"the loss of {int((~losses.isfinite()).sum())} answers is not finite")
    gradients.refuse_unreached()
    for matrix, count in spoilt.items():
        if count:
            raise ValueError(f"the gradient along {matrix} is not finite for {count} of {len(encoded)} examples")
    return {matrix: tally.slopes() for matrix, tally in tallies.items()}


class _MixedRowsError(Exception):
    """A module sees tokens in a form that does not say of which rows they are."""


class Gradients:
    """Passes forth and back that find the gradients of single examples, and not those of the weights.

    Hooks see the inputs of each linear map and the gradient of its outputs, and let them go as the way back passes;
    it ends at the lowest of the maps. Weights need no gradients, and all that is changed about the model is gone after
    a pass. Only experts that are slices of one parameter are no modules that could have hooks: for them the gradient
    of the whole parameter is computed, one example at a time, which is slower.
    """

    def __init__(self, forward: Forward, collator: Collator, directions: Mapping[Matrix, Directions]) -> None:
        self._forward = forward
        self._collator = collator
        self._directions = directions
        self._maps: defaultdict[nn.Module, list[Matrix]] = defaultdict(list)
        self._experts: defaultdict[torch.Tensor, list[Matrix]] = defaultdict(list)
        owners = {id(p): module for module in forward.model.modules() for p in module.parameters(recurse=False)}
        for matrix, one in directions.items():
            if one.weight.expert is None:
                self._maps[owners[id(one.weight.parameter)]].append(matrix)
            else:
                self._experts[one.weight.parameter].append(matrix)
        self._called: set[Matrix] = set()
        self._reached: set[Matrix] = set()
        self._scale = _LARGEST_SCALE if forward.model.dtype == torch.float16 else 1.0

    @property
    def one_by_one(self) -> bool:
        """Whether a batch may have one row only."""
        return bool(self._experts)

    def of(self, batch: Batch, lengths: torch.Tensor) -> tuple[torch.Tensor, dict[Matrix, torch.Tensor]]:
        """The loss of each row (rows,) and its gradients along the directions of each matrix (rows, r), float64.

        A row holds one passage, and its loss is -log p(targets) / `lengths` (rows,), in nats. A gradient is nan where
        a loss of the batch is not finite.
        """
        try:
            return self._scaled(batch, lengths)
        except _MixedRowsError:
            pass  # what the pass has kept goes before the next
        each = [self._scaled(self._collator.collate([row]), lengths[[n]]) for n, row in enumerate(batch.rows)]
        losses = torch.cat([loss for loss, _ in each])
        return losses, {matrix: torch.cat([found[matrix] for _, found in each]) for matrix in self._directions}

    def refuse_unreached(self) -> None:
        """Raises ValueError where no example so far had a gradient for one of the matrices."""
        for matrix in self._directions:
            if matrix not in self._reached:
                why = "the loss does not depend on what it gives" if matrix in self._called else "it is not called"
                raise ValueError(f"gradients do not reach {matrix} of {type(self._forward.model).__name__}: {why}")

    def _scaled(self, batch: Batch, lengths: torch.Tensor) -> tuple[torch.Tensor, dict[Matrix, torch.Tensor]]:
        """One pass; in float16 others with the loss times less where something overflows on the way back."""
        losses, found = self._pass(batch, lengths)
        while self._scale > 1.0 and losses.isfinite().all() and not all(g.isfinite().all() for g in found.values()):
            self._scale /= _SCALE_STEP
            losses, found = self._pass(batch, lengths)
        return losses, found

    def _pass(self, batch: Batch, lengths: torch.Tensor) -> tuple[torch.Tensor, dict[Matrix, torch.Tensor]]:
        found = {
            matrix: torch.zeros(len(batch), len(one.singular_values), dtype=torch.float64, device=one.device)
            for matrix, one in self._directions.items()
        }
        with ExitStack() as changes, torch.enable_grad():
            for module, matrices in self._maps.items():
                hook = self._watching(matrices, batch, found)
                changes.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
            for parameter, matrices in self._experts.items():
                self._watch_parameter(parameter, matrices, found, changes)
            losses = self._losses(batch, lengths)
            if not losses.isfinite().all():
                found = {matrix: torch.full_like(values, torch.nan) for matrix, values in found.items()}
            elif losses.requires_grad:
                (losses.sum() * self._scale).backward()
        return losses.detach().cpu(), {matrix: values / self._scale for matrix, values in found.items()}

    def _losses(self, batch: Batch, lengths: torch.Tensor) -> torch.Tensor:
        """-log p(targets) / length of each row (rows,), float64."""
        narrows, self._forward.narrows = self._forward.narrows, False  # rows could not be told apart
        try:
            logits = self._forward.logits(batch)  # (reads, vocabulary)
        finally:
            self._forward.narrows = narrows
        device = logits.device
        logits = logits if logits.dtype == torch.float64 else logits.float()
        surprise = functional.cross_entropy(logits, batch.targets.to(device), reduction="none").double()
        return surprise.new_zeros(len(batch)).index_add(0, batch.owners.to(device), surprise) / lengths.to(device)

    def _watching(self, matrices: list[Matrix], batch: Batch, found: dict[Matrix, torch.Tensor]) -> Callable[..., Any]:
        """A forward hook for the linear map that holds these matrices; on the way back it adds to `found`."""

        def forth(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], output: torch.Tensor) -> Any:
            inputs = _by_row((*arguments, *options.values())[0].detach(), batch)
            waiting = [(inputs, inputs._version)]
            self._called.update(matrices)
            if not output.requires_grad:  # the way back ends here; at a copy, as the end may not be changed in place
                output = output.detach().requires_grad_().clone()

            def back(gradient: torch.Tensor) -> None:
                inputs, version = waiting.pop()  # or they would stay for as long as the graph does
                if inputs._version != version:
                    raise ValueError(f"the input of {matrices[0]} is changed in place after it was read")
                gradient = _by_row(gradient, batch)
                for matrix in matrices:
                    one = self._directions[matrix]
                    rows = one.weight.rows
                    mine = gradient if rows is None else gradient[..., rows.to(gradient.device)]
                    found[matrix] += one.along(inputs, mine)
                self._reached.update(matrices)

            output.register_hook(back)
            return output

        return forth

    def _watch_parameter(
        self, parameter: torch.Tensor, matrices: list[Matrix], found: dict[Matrix, torch.Tensor], changes: ExitStack
    ) -> None:
        """Lets the way back add to `found` what it finds for experts that are slices of this parameter."""

        def back(parameter: torch.Tensor) -> None:
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            for matrix in matrices:
                one = self._directions[matrix]
                mine = replace(one.weight, parameter=gradient).read()
                if mine.any():  # few experts see the tokens of one example
                    found[matrix] += one.within(mine)
            self._reached.update(matrices)

        def forget() -> None:
            parameter.requires_grad_(False)
            parameter.grad = None

        self._called.update(matrices)
        changes.callback(forget)
        changes.callback(parameter.requires_grad_().register_post_accumulate_grad_hook(back).remove)


def _by_row(states: torch.Tensor, batch: Batch) -> torch.Tensor:
    """States of tokens (rows, tokens, k); one module sees them so, another in one row (rows * tokens, k)."""
    rows, tokens = batch.input_ids.shape
    if rows == 1:
        return states.reshape(1, -1, states.shape[-1])
    if states.ndim == 3 and states.shape[:2] == (rows, tokens):
        return states
    if states.ndim == 2 and len(states) == rows * tokens:
        return states.reshape(rows, tokens, -1)
    raise _MixedRowsError
