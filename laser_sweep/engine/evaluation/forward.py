"""Runs a model from any of its blocks on, and only where its output is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from laser_sweep.engine.evaluation.batches import Batch
from laser_sweep.engine.models.layout import Layout, Parts


@dataclass(frozen=True, slots=True)
class Kept:
    """What the untouched model computes for a batch below an edit.

    `hidden_states` (batch, tokens, hidden) enter block `layer`; `attention` (batch, tokens, hidden) is what its
    attention makes of them, None where the block does not have it as a part of its own.
    """

    layer: int
    hidden_states: torch.Tensor
    attention: torch.Tensor | None
    device: torch.device
    """Where they were computed and are needed, wherever they wait."""

    @property
    def num_bytes(self) -> int:
        return sum(part.nbytes for part in (self.hidden_states, self.attention) if part is not None)

    def rows(self, rows: slice, tokens: int) -> Kept:
        """The states of some rows, cut to their own number of tokens."""
        attention = None if self.attention is None else self.attention[rows, :tokens]
        return replace(self, hidden_states=self.hidden_states[rows, :tokens], attention=attention)

    def at(self, device: torch.device) -> Kept:
        """The same states in the memory of another device."""
        attention = None if self.attention is None else self.attention.to(device)
        return replace(self, hidden_states=self.hidden_states.to(device), attention=attention)


class _ReachedError(Exception):
    """Ends a pass where all that was asked for is there."""


class Forward:
    """Passes of one model over batches. Everything that it changes about the model's modules is gone after a pass.

    Blocks below an edit are skipped by letting them return the kept states at once, so that masks, position embeddings
    and whatever else a model prepares for its blocks are made by its own code.
    """

    def __init__(self, model: PreTrainedModel, layout: Layout) -> None:
        self.model = model
        self._blocks = layout.blocks
        self._parts = [layout.parts(layer) for layer in range(layout.num_layers)]
        self._shapes: dict[nn.Module, int] = {}
        """How many things a block or an attention returns beside its hidden states, for those that return a tuple."""
        self.replays = True
        """Whether a pass may start above the first block."""
        self.narrows = True
        """Whether the last block's MLP runs only where the output is read."""
        self.packs = False
        """Whether passages that begin alike may share a row."""

    @property
    def num_layers(self) -> int:
        return len(self._blocks)

    def logits(self, batch: Batch, kept: Kept | None = None, *, keep_attention: bool = True) -> torch.Tensor:
        """Logits at the places that are read alone (reads, vocabulary), from `kept` on where it is given.

        Without `keep_attention` the attention of the first block that runs is computed again.
        """
        with ExitStack() as changes:
            if kept is not None:
                self._start_at(kept, changes, keep_attention=keep_attention)
            if self.narrows:
                for part in self._parts[-1].mlp:
                    changes.enter_context(_forward_of(part, _narrowed(part, batch)))
            changes.enter_context(_head_sees(self.model, batch.places))
            logits: torch.Tensor = self._run(batch).logits
        return logits[0]

    def keep(self, batch: Batch, layer: int, kept: Kept | None = None) -> Kept:
        """The states that enter block `layer`, computed from `kept`, of a lower block, where it is given."""
        found: dict[str, torch.Tensor] = {}
        attention = self._parts[layer].attention
        with ExitStack() as changes:
            if kept is not None:
                self._start_at(kept, changes, keep_attention=layer > kept.layer)

            def enters(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
                found["hidden_states"] = arguments[0] if arguments else options["hidden_states"]
                if attention is None:
                    raise _ReachedError

            def leaves(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
                found["attention"] = _first(output)
                raise _ReachedError

            changes.callback(self._blocks[layer].register_forward_pre_hook(enters, with_kwargs=True).remove)
            if attention is not None:
                changes.callback(attention.register_forward_hook(leaves).remove)
            try:
                self._run(batch)
            except _ReachedError:
                states = found["hidden_states"]
                return Kept(layer, states, found.get("attention"), states.device)
        raise RuntimeError(f"block {layer} of {type(self.model).__name__} was not reached")

    def _start_at(self, kept: Kept, changes: ExitStack, *, keep_attention: bool) -> None:
        kept = kept.at(kept.device)
        for block in self._blocks[: kept.layer]:
            changes.enter_context(_forward_of(block, self._returning(block, kept.hidden_states)))
        attention = self._parts[kept.layer].attention
        if keep_attention and attention is not None and kept.attention is not None:
            changes.enter_context(_forward_of(attention, self._returning(attention, kept.attention)))

    def _returning(self, module: nn.Module, hidden_states: torch.Tensor) -> Callable[..., Any]:
        """A forward that returns what is kept, in the form in which the module returns it."""
        extra = self._shapes.get(module)
        output = hidden_states if extra is None else (hidden_states, *[None] * extra)
        return lambda *arguments, **options: output

    def learn(self, batch: Batch) -> None:
        """Sees in a whole pass in which form blocks and attentions return their hidden states, and in which order.

        An attention that follows the MLP of its block depends on an edit of that, and is not kept.
        """
        order: list[nn.Module] = []

        def note(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            order.append(module)
            if isinstance(output, tuple):
                self._shapes[module] = len(output) - 1

        attentions = [part.attention for part in self._parts if part.attention is not None]
        mlps = [module for part in self._parts for module in part.mlp]
        with ExitStack() as hooks:
            for module in (*self._blocks, *attentions, *mlps):
                hooks.callback(module.register_forward_hook(note).remove)
            self._run(batch)
        place = {module: number for number, module in enumerate(order)}

        def precedes(part: Parts) -> bool:
            return part.attention is None or all(place[part.attention] < place.get(mlp, -1) for mlp in part.mlp)

        self._parts = [part if precedes(part) else Parts(None, part.mlp) for part in self._parts]

    def _run(self, batch: Batch) -> Any:
        if batch.attention_mask is not None:
            return self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        if batch.position_ids is None:
            return self.model(input_ids=batch.input_ids, use_cache=False)
        return self.model(
            input_ids=batch.input_ids,
            attention_mask=batch.branch_mask(self.model.dtype),
            position_ids=batch.position_ids,
            use_cache=False,
        )


@contextmanager
def _forward_of(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside, the module computes `forward`. Its hooks, parameters and attributes stay what they are."""
    own = module.__dict__.get("forward")  # accelerate puts one there
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _narrowed(module: nn.Module, batch: Batch) -> Callable[..., Any]:
    """The module, which treats every token by itself, at the places of a batch alone; zero elsewhere."""
    whole = module.forward

    def forward(*arguments: Any, **options: Any) -> Any:
        hidden_states = arguments[0] if len(arguments) == 1 and not options else None
        if hidden_states is None or hidden_states.shape[:2] != batch.input_ids.shape:
            return whole(*arguments, **options)
        rows, positions = batch.places.to(hidden_states.device)
        output = whole(hidden_states[rows, positions][None])  # (1, reads, out)
        read = _first(output)
        everywhere = read.new_zeros(*hidden_states.shape[:2], read.shape[-1])
        everywhere[rows, positions] = read.flatten(end_dim=-2)
        if read.ndim == 2:  # Llama 4 returns its tokens in one row
            everywhere = everywhere.flatten(end_dim=1)
        return (everywhere, *output[1:]) if isinstance(output, tuple) else everywhere

    return forward


def _first(output: Any) -> torch.Tensor:
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


@contextmanager
def _head_sees(model: PreTrainedModel, places: torch.Tensor) -> Iterator[None]:
    """Inside, the output embedding gets (1, reads, hidden): the states at `places` (2, reads), row and position.

    A hook on the module rather than an argument of the model: every architecture has the module, while the meaning of
    `logits_to_keep` differs, and it takes one set of positions for the whole batch.
    """

    def select(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden_states = arguments[0]  # (batch, tokens, hidden)
        rows, positions = places.to(hidden_states.device)
        return (hidden_states[rows, positions][None], *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
