"""Which passes may start above the first block, and where the states live from which they do."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from laser_sweep.engine.evaluation.batches import Batch, Collator
from laser_sweep.engine.evaluation.forward import Forward, Kept
from laser_sweep.engine.evaluation.packing import ROW_TOKENS, alone, packed
from laser_sweep.engine.evaluation.score import Piece
from laser_sweep.engine.models.layout import Layout
from laser_sweep.engine.tasks.tokenise import Passage

_log = logging.getLogger(__name__)
_LENGTHS = (9, 7, 5)  # of the passages of the check
_SHARED = 3  # of their tokens, from the beginning
_NOT_MADE_FOR_THIS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, NotImplementedError)
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.05}
"""How far logits may be from those of a whole pass, as a share of the largest, when tokens are grouped otherwise."""


def checked_forward(model: PreTrainedModel, layout: Layout, collator: Collator) -> Forward:
    """Passes over a model that start anywhere, as far as the model proves to give the same results.

    Replayed passes must give the bits of whole ones from the first, second, middle and last block; the last block's
    MLP at the places that are read alone, and rows of several passages, must give the logits of the whole up to
    rounding. What fails is not done; of replayed passes that is said.
    """
    forward = Forward(model, layout)
    passages = _check_passages(model)
    batch = collator.collate(alone(passages))
    with torch.inference_mode():
        forward.learn(batch)
        forward.narrows = False
        whole = forward.logits(batch)
        last = forward.num_layers - 1
        forward.replays = all(_replays(forward, batch, layer, whole) for layer in {0, min(1, last), last // 2, last})
        forward.narrows = _close(forward, batch, whole, narrows=True)
        if not collator.masked and _sees_rows_whole(model):
            rows = packed(passages)
            order = [index for row in rows for index in row.indices]
            reads = whole.unflatten(0, (len(passages), -1))[order].flatten(end_dim=1)
            forward.packs = _close(forward, collator.collate(rows), reads, narrows=False)
    if not forward.replays:
        _log.warning(
            "%s does not give the same results when its blocks are replayed: every trial is a whole pass",
            type(model).__name__,
        )
    return forward


def _sees_rows_whole(model: PreTrainedModel) -> bool:
    """Whether no window is shorter than a row: a mask of our own takes the place of the model's, windows included."""
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    return all(not window or window >= ROW_TOKENS for window in windows)


def _close(forward: Forward, batch: Batch, whole: torch.Tensor, *, narrows: bool) -> bool:
    """Whether a pass gives logits (reads, vocabulary) up to rounding."""
    before, forward.narrows = forward.narrows, narrows
    try:
        difference = (forward.logits(batch) - whole).abs().max()
    except _NOT_MADE_FOR_THIS:
        return False
    finally:
        forward.narrows = before
    return bool(difference <= _TOLERANCE[whole.dtype] * whole.abs().max())


def _replays(forward: Forward, batch: Batch, layer: int, whole: torch.Tensor) -> bool:
    """Whether passes that start at a block give the same bits, also from states that came up from the first one."""
    try:
        advanced = forward.keep(batch, layer, forward.keep(batch, 0))
        return all(
            torch.equal(forward.logits(batch, kept, keep_attention=keep_attention).nan_to_num(), whole.nan_to_num())
            for kept in (forward.keep(batch, layer), advanced)
            for keep_attention in (False, True)
        )
    except _NOT_MADE_FOR_THIS:
        return False


def _check_passages(model: PreTrainedModel) -> list[Passage]:
    """A few passages of different lengths that begin alike, of tokens spread over the vocabulary."""
    vocabulary = model.get_output_embeddings().weight.shape[0]
    return [
        Passage(
            input_ids=tuple(
                (97 * place + (0 if place <= _SHARED else 31 * length)) % vocabulary for place in range(1, length + 1)
            ),
            positions=(length // 2, length - 1),
            targets=(0, 0),
        )
        for length in _LENGTHS
    ]


class Replay:
    """The batches of one evaluation with the states that enter one block.

    States stay on the device as far as `device_bytes` reach, then in the host's memory as far as `host_bytes` do; the
    batches that are left are run whole. So memory bounds speed, never what can be run.
    """

    def __init__(self, forward: Forward, batches: Sequence[Batch], *, device_bytes: int, host_bytes: int = 0) -> None:
        self._forward = forward
        self._batches = batches
        self._device_bytes = device_bytes
        self._host_bytes = host_bytes
        self._kept: list[Kept | None] = [None] * len(batches)
        self._layer: int | None = None

    @property
    def layer(self) -> int | None:
        """The block that the states enter, None while nothing is kept."""
        return self._layer

    def release(self) -> None:
        """Forgets all states."""
        self._kept = [None] * len(self._batches)
        self._layer = None

    def advance(self, layer: int) -> None:
        """Makes the states that enter block `layer`, from those of a lower block where they are kept.

        The model must be untouched.
        """
        if not self._forward.replays or layer == self._layer:
            return
        if self._layer is None or layer < self._layer:
            self.release()
        self._layer = None  # what an error leaves half done is not gone on with
        free = {"device": self._device_bytes, "host": self._host_bytes}
        for place, batch in enumerate(self._batches):
            before, self._kept[place] = self._kept[place], None
            self._kept[place] = self._keep(batch, layer, before, free)
            if self._kept[place] is None:
                self._kept[place + 1 :] = [None] * (len(self._batches) - place - 1)
                break
        self._layer = layer

    def _keep(self, batch: Batch, layer: int, before: Kept | None, free: dict[str, int]) -> Kept | None:
        """The states of one batch, where there is room for them."""
        try:
            with torch.inference_mode():
                kept = self._forward.keep(batch, layer, before)
        except torch.OutOfMemoryError:
            kept = None
        if kept is None:
            torch.cuda.empty_cache()
            return None
        place = "device" if kept.num_bytes <= free["device"] else "host"
        if kept.num_bytes > free[place]:
            return None
        free[place] -= kept.num_bytes
        return kept if place == "device" or kept.device.type == "cpu" else kept.at(torch.device("cpu"))

    def pieces(self) -> list[Piece]:
        """What there is to run now."""
        return [Piece(batch, kept) for batch, kept in zip(self._batches, self._kept, strict=True)]
