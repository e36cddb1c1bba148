"""The published way to run a trial, written after its description: one copy, one sketch, one example at a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from laser_sweep.engine.tasks.example import Example
from laser_sweep.trial import rank_of

POWER_ITERATIONS = 2


@dataclass(frozen=True)
class Answer:
    """What the published evaluation records of an example that is decided by one token."""

    correct: bool
    gold_log_prob: float


def edited_copy(model: PreTrainedModel, parameter: str, rho: float) -> PreTrainedModel:
    """A copy of the whole model with one matrix replaced by its randomised approximation, autograd on."""
    edited = copy.deepcopy(model)
    weight = dict(edited.named_parameters())[parameter]
    weight.requires_grad_(True)
    dense = weight.float()
    rank = int(min(weight.shape) * rho)
    left, values, right = torch.svd_lowrank(dense, q=rank, niter=POWER_ITERATIONS)
    approximation = left @ torch.diag(values) @ right.T
    with torch.no_grad():
        weight[...] = approximation
    return edited


@torch.no_grad()
def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, example: Example) -> Answer:
    """Tokenises and runs one prompt, takes the log-softmax of all its logits and sorts the vocabulary."""
    inputs = tokenizer(example.prompt, return_tensors="pt").to(model.device)
    logits = model(input_ids=inputs["input_ids"]).logits[0]
    log_probs = torch.log_softmax(logits.float(), dim=-1)  # (tokens, vocabulary)
    last = log_probs[-1]
    ranked = torch.sort(last, descending=True)
    tokenizer.batch_decode([[token] for token in ranked.indices[:10].tolist()])
    choices = {
        choice: last[tokenizer(f"{example.prompt} {choice}")["input_ids"][-1]].item() for choice in example.choices
    }
    others = [value for choice, value in choices.items() if choice != example.gold]
    return Answer(choices[example.gold] > max(others), choices[example.gold])


class PublishedWay:
    """Trials of one model, carried out the published way, with the seconds that they take.

    The factorisation that is timed is the published one; what is evaluated is the exact truncation, so that another
    side must find the same. No figure of time depends on what stands in the matrix.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._decomposed: tuple[str, tuple[torch.Tensor, ...]] | None = None

    def edited(self, parameter: str, rho: float) -> tuple[PreTrainedModel, float]:
        """A copy of the model with one matrix replaced, and the seconds that it took."""
        started = time.perf_counter()
        edited = edited_copy(self.model, parameter, rho)
        seconds = time.perf_counter() - started
        if self._decomposed is None or self._decomposed[0] != parameter:
            weight = self.model.get_parameter(parameter).double()
            self._decomposed = parameter, torch.linalg.svd(weight, full_matrices=False)
        left, values, right = self._decomposed[1]
        rank = rank_of(rho, len(values), len(values))
        with torch.no_grad():
            edited.get_parameter(parameter).copy_(left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank])
        edited.requires_grad_(False)
        return edited, seconds

    def answers(self, model: PreTrainedModel, examples: Sequence[Example]) -> tuple[list[Answer], float]:
        """What a model, the untouched one or a copy, answers to each example, and the seconds that all of them took."""
        started = time.perf_counter()
        answers = [answer(model, self._tokenizer, example) for example in examples]
        return answers, time.perf_counter() - started
