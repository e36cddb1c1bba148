"""Runs a model over batches and scores the token that follows each prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from laser_sweep.engine.evaluation.batches import Batch


@dataclass(frozen=True, slots=True)
class Scores:
    """One row for each example, in the order of the task.

    `gold_log_prob` is log p(gold) over the full vocabulary, in nats; `gold_rank` how many tokens are more probable than
    the gold one; `predicted` the most probable choice (its place among the choices), or without choices the most
    probable token (its id); `correct` whether the gold answer beats every other choice, or every other token, strictly.
    """

    gold_log_prob: npt.NDArray[np.float64]
    gold_rank: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    correct: npt.NDArray[np.bool_]


@torch.inference_mode()
def score(model: PreTrainedModel, batches: Sequence[Batch]) -> Scores:
    """Scores every row of every batch. A batch that does not fit the device is halved until it does.

    Raises ValueError where log p(gold) is not finite, as after an overflow in the model.
    """
    total = sum(len(batch) for batch in batches)
    gold_log_prob = np.empty(total, dtype=np.float64)
    integers = np.empty((3, total), dtype=np.int64)
    pending = list(reversed(batches))
    while pending:
        batch = pending.pop()
        try:
            log_probs, rank, predicted, correct = _score_batch(model, batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            pending.extend(reversed(batch.halves()))
        else:
            rows = list(batch.indices)
            gold_log_prob[rows] = log_probs.cpu().numpy()
            integers[:, rows] = torch.stack([rank, predicted, correct]).cpu().numpy()
            continue
        torch.cuda.empty_cache()  # only here: in its handler the exception still holds what did not fit
    if not np.isfinite(gold_log_prob).all():
        raise ValueError(f"the loss of {int((~np.isfinite(gold_log_prob)).sum())} examples is not finite")
    return Scores(gold_log_prob, integers[0], integers[1], integers[2].astype(bool))


def _score_batch(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, ...]:
    """(log p(gold), gold rank, prediction, correct), each (batch,)."""
    logits = answer_logits(model, batch).float()  # (batch, vocabulary)
    gold_logits = logits.gather(1, batch.gold_ids[:, None])  # (batch, 1)
    log_probs = gold_logits[:, 0] - logits.logsumexp(dim=-1)
    rank = (logits > gold_logits).sum(dim=-1)
    if batch.choice_ids.shape[1] == 0:
        ties = (logits == gold_logits).sum(dim=-1) - 1
        return log_probs, rank, logits.argmax(dim=-1), (rank + ties == 0).long()
    choice_logits = logits.gather(1, batch.choice_ids)  # (batch, choices)
    others = choice_logits.masked_fill(batch.choice_ids == batch.gold_ids[:, None], -torch.inf)
    correct = (gold_logits > others).all(dim=-1)
    return log_probs, rank, choice_logits.argmax(dim=-1), correct.long()


def answer_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Logits at the answer positions alone (batch, vocabulary); the head runs on no other position."""
    with _head_sees(model, batch.answer_positions):
        logits: torch.Tensor = model(input_ids=batch.input_ids, use_cache=False).logits
    return logits[:, 0]


@contextmanager
def _head_sees(model: PreTrainedModel, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the output embedding gets (batch, 1, hidden): the state at one position of each row.

    A hook on the module rather than an argument of the model: every architecture has the module, while the meaning of
    `logits_to_keep` differs, and it takes one set of positions for the whole batch.
    """

    def select(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden_states = arguments[0]  # (batch, tokens, hidden)
        rows = torch.arange(len(positions), device=hidden_states.device)
        return (hidden_states[rows, positions.to(hidden_states.device)][:, None], *arguments[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
