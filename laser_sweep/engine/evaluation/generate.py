"""Lets a causal model write on from prompts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel

from laser_sweep.engine.evaluation.batches import halved_when_full, within_budget

_SEED = 0  # of a checkpoint that samples


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote after a prompt, and the end token that it wrote then, if it did."""

    ids: tuple[int, ...]
    end: int | None


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    max_new_tokens: int,
    batch_tokens: int,
    published: bool = False,
    min_new_tokens: int = 1,
) -> list[Written]:
    """The new tokens after each prompt.

    Greedy. `published` leaves it to the checkpoint's own generation settings, which may sample: then every prompt is
    asked alone under a seed of its own place, so that the answers depend neither on batches nor on the order of trials.
    """
    own = model.generation_config or GenerationConfig()
    settings = _own(own, max_new_tokens) if published else _greedy(own, max_new_tokens, min_new_tokens)
    ends = end_tokens(model)
    pad = settings.pad_token_id
    written = [Written((), None)] * len(prompts)

    def run(places: list[int]) -> None:
        width = max(len(prompts[place]) for place in places)
        # Padding stands on the left, so that every row is continued at its end.
        ids = [[pad] * (width - len(prompts[place])) + list(prompts[place]) for place in places]
        mask = [[0] * (width - len(prompts[place])) + [1] * len(prompts[place]) for place in places]
        output = cast(Any, model).generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            generation_config=settings,
        )
        for place, row in zip(places, output[:, width:].tolist(), strict=True):
            length = next((i for i, token in enumerate(row) if token in ends), len(row))
            written[place] = Written(tuple(row[:length]), row[length] if length < len(row) else None)

    model.generation_config = settings  # or generate() fills up what `settings` leaves open
    try:
        if settings.do_sample:
            with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
                for place in range(len(prompts)):
                    torch.manual_seed(_SEED + place)
                    run([place])
        else:
            sizes = [len(prompt) + max_new_tokens for prompt in prompts]
            halved_when_full(within_budget(sizes, batch_tokens), run, lambda b: (b[: len(b) // 2], b[len(b) // 2 :]))
    finally:
        model.generation_config = own
    return written


def end_tokens(model: PreTrainedModel) -> tuple[int, ...]:
    """The tokens that end a text of the model."""
    ends = None if model.generation_config is None else model.generation_config.eos_token_id
    return tuple(ends) if isinstance(ends, list) else () if ends is None else (int(ends),)


def _greedy(own: GenerationConfig, max_new_tokens: int, min_new_tokens: int) -> GenerationConfig:
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        eos_token_id=own.eos_token_id,
        pad_token_id=_pad(own),
    )


def _own(own: GenerationConfig, max_new_tokens: int) -> GenerationConfig:
    settings = copy.deepcopy(own)
    settings.update(max_length=None, max_new_tokens=max_new_tokens, min_new_tokens=1, pad_token_id=_pad(own))
    return settings


def _pad(own: GenerationConfig) -> int:
    """Any token will do: it is masked, and what follows the end token is dropped."""
    for token in (own.pad_token_id, own.eos_token_id, own.bos_token_id):
        if token is not None:
            return int(token[0]) if isinstance(token, list) else int(token)
    return 0
