"""Runs a model over passages and reads its logits where the answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from laser_sweep.engine.evaluation.batches import Batch, Collator, halved_when_full
from laser_sweep.engine.evaluation.forward import Forward, Kept

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


@dataclass(frozen=True, slots=True)
class Piece:
    """A batch, and what is kept of the untouched model's pass over it, if anything is."""

    batch: Batch
    kept: Kept | None = None

    def __len__(self) -> int:
        return len(self.batch)

    def halves(self, collator: Collator) -> tuple[Piece, Piece]:
        """The same passages in two pieces, for a device that could not hold them in one."""
        first, second = collator.halves(self.batch)
        if self.kept is None:
            return Piece(first), Piece(second)
        middle = len(first)
        return (
            Piece(first, self.kept.rows(slice(None, middle), first.input_ids.shape[1])),
            Piece(second, self.kept.rows(slice(middle, None), second.input_ids.shape[1])),
        )


@torch.inference_mode()
def score(
    forward: Forward, pieces: Sequence[Piece], collator: Collator, *, keep_attention: bool = True
) -> PassageScores:
    """Scores every passage of every piece. One that does not fit the device is halved until it does.

    `keep_attention` says that the attention of the block in which kept states start is not edited. Raises ValueError
    where log p(target) is not finite, as after an overflow in the model.
    """
    total = sum(len(piece.batch.indices) for piece in pieces)
    most = max((piece.batch.candidates.shape[1] for piece in pieces), default=0)
    top = min(NUM_TOP, forward.model.get_output_embeddings().weight.shape[0])
    scores = PassageScores(
        log_prob=np.empty(total),
        rank=np.empty(total, dtype=np.int64),
        candidate_logits=np.full((total, most), -np.inf, dtype=np.float32),
        top_ids=np.empty((total, top), dtype=np.int64),
        num_best=np.empty(total, dtype=np.int64),
        best_ids=[np.empty(0, dtype=np.int64)] * total,
    )
    read: list[tuple[Batch, _Read]] = []

    def run(piece: Piece) -> None:
        logits = forward.logits(piece.batch, piece.kept, keep_attention=keep_attention)
        read.append((piece.batch, _read(logits.float(), piece.batch, top)))

    halved_when_full(pieces, run, lambda piece: piece.halves(collator))
    for batch, figures in read:  # only here does anything wait for the device
        _fill(scores, batch, figures)
    if not np.isfinite(scores.log_prob).all():
        raise ValueError(f"the loss of {int((~np.isfinite(scores.log_prob)).sum())} answers is not finite")
    return scores


@dataclass(frozen=True, slots=True)
class _Read:
    """The figures of `PassageScores` of one batch, on its device; `best_ids` (reads,) passage by passage."""

    log_prob: torch.Tensor
    rank: torch.Tensor
    candidate_logits: torch.Tensor
    top_ids: torch.Tensor
    num_best: torch.Tensor
    best_ids: torch.Tensor


def _read(logits: torch.Tensor, batch: Batch, top: int) -> _Read:
    """Takes what is asked for from logits (reads, vocabulary)."""
    device, count = logits.device, len(batch.indices)
    targets, owners, num_reads = batch.targets.to(device), batch.owners.to(device), batch.num_reads.to(device)
    candidates = batch.candidates.to(device)
    target_logits = logits.gather(1, targets[:, None])  # (reads, 1)
    log_probs = target_logits[:, 0] - logits.logsumexp(dim=-1)
    ranks = (logits > target_logits).sum(dim=-1)
    at_first = logits[num_reads.cumsum(0) - num_reads]  # (passages, vocabulary)
    best = at_first.topk(top, dim=-1)
    return _Read(
        log_prob=torch.zeros(count, dtype=torch.float64, device=device).index_add(0, owners, log_probs.double()),
        rank=torch.zeros(count, dtype=ranks.dtype, device=device).scatter_reduce(0, owners, ranks, "amax"),
        candidate_logits=at_first.gather(1, candidates.clamp(min=0)).masked_fill(candidates < 0, -torch.inf),
        top_ids=best.indices,
        num_best=(best.values == best.values[:, :1]).sum(dim=-1),
        best_ids=logits.argmax(dim=-1),
    )


def _fill(scores: PassageScores, batch: Batch, read: _Read) -> None:
    rows = list(batch.indices)
    scores.log_prob[rows] = read.log_prob.cpu().numpy()
    scores.rank[rows] = read.rank.cpu().numpy()
    scores.candidate_logits[rows, : read.candidate_logits.shape[1]] = read.candidate_logits.cpu().numpy()
    scores.top_ids[rows] = read.top_ids.cpu().numpy()
    scores.num_best[rows] = read.num_best.cpu().numpy()
    for row, span in zip(rows, read.best_ids.cpu().split(batch.num_reads.tolist()), strict=True):
        scores.best_ids[row] = span.numpy()
