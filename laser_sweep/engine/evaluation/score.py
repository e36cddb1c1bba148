"""Runs a model over passages and reads its logits where the answers are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from laser_sweep.engine.evaluation.batches import Batch, Collator, halved_when_full

NUM_TOP = 10
"""How many of the most probable tokens are looked at for top-1, top-5 and top-10 accuracy."""


@dataclass(frozen=True, slots=True)
class PassageScores:
    """One row for each passage, in the order of the task.

    `log_prob` is the sum of log p(target) over the full vocabulary, in nats, `rank` the largest number of tokens more
    probable than a target. At the first position: `candidate_logits` (passages, most candidates), -inf where a passage
    has fewer; `top_ids` (passages, 10) the most probable tokens, and `num_best` how many share the largest logit.
    `best_ids` holds the most probable token of every position of a passage.
    """

    log_prob: npt.NDArray[np.float64]
    rank: npt.NDArray[np.int64]
    candidate_logits: npt.NDArray[np.float32]
    top_ids: npt.NDArray[np.int64]
    num_best: npt.NDArray[np.int64]
    best_ids: list[npt.NDArray[np.int64]]


@torch.inference_mode()
def score(model: PreTrainedModel, batches: Sequence[Batch], collator: Collator) -> PassageScores:
    """Scores every passage of every batch. A batch that does not fit the device is halved until it does.

    Raises ValueError where log p(target) is not finite, as after an overflow in the model.
    """
    total = sum(len(batch) for batch in batches)
    most = max((batch.candidates.shape[1] for batch in batches), default=0)
    top = min(NUM_TOP, model.get_output_embeddings().weight.shape[0])
    scores = PassageScores(
        log_prob=np.empty(total),
        rank=np.empty(total, dtype=np.int64),
        candidate_logits=np.full((total, most), -np.inf, dtype=np.float32),
        top_ids=np.empty((total, top), dtype=np.int64),
        num_best=np.empty(total, dtype=np.int64),
        best_ids=[np.empty(0, dtype=np.int64)] * total,
    )
    halved_when_full(batches, lambda batch: _score_batch(model, batch, scores), collator.halves)
    if not np.isfinite(scores.log_prob).all():
        raise ValueError(f"the loss of {int((~np.isfinite(scores.log_prob)).sum())} answers is not finite")
    return scores


def _score_batch(model: PreTrainedModel, batch: Batch, scores: PassageScores) -> None:
    logits = answer_logits(model, batch).float()  # (reads, vocabulary)
    targets = batch.targets.to(logits.device)
    places = batch.places.to(logits.device)
    target_logits = logits.gather(1, targets[:, None])  # (reads, 1)
    log_probs = target_logits[:, 0] - logits.logsumexp(dim=-1)
    ranks = (logits > target_logits).sum(dim=-1)
    first = batch.num_reads.to(logits.device).cumsum(0) - batch.num_reads.to(logits.device)  # (batch,)
    at_first = logits[first]  # (batch, vocabulary)
    best = at_first.topk(scores.top_ids.shape[1], dim=-1)
    candidates = batch.candidates.to(logits.device)
    candidate_logits = at_first.gather(1, candidates.clamp(min=0)).masked_fill(candidates < 0, -torch.inf)

    rows = list(batch.indices)
    sums = torch.zeros(len(batch), dtype=torch.float64, device=logits.device)
    scores.log_prob[rows] = sums.index_add(0, places[0], log_probs.double()).cpu().numpy()
    worst = torch.zeros(len(batch), dtype=ranks.dtype, device=logits.device)
    scores.rank[rows] = worst.scatter_reduce(0, places[0], ranks, "amax").cpu().numpy()
    scores.candidate_logits[rows, : candidates.shape[1]] = candidate_logits.cpu().numpy()
    scores.top_ids[rows] = best.indices.cpu().numpy()
    scores.num_best[rows] = (best.values == best.values[:, :1]).sum(dim=-1).cpu().numpy()
    spans = logits.argmax(dim=-1).cpu().split(batch.num_reads.tolist())
    for row, span in zip(rows, spans, strict=True):
        scores.best_ids[row] = span.numpy()


def answer_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Logits at the places that are read alone (reads, vocabulary); the head runs on no other position."""
    with _head_sees(model, batch.places):
        if batch.attention_mask is None:
            output = model(input_ids=batch.input_ids, use_cache=False)
        else:
            output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    logits: torch.Tensor = output.logits
    return logits[0]


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
