from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel, XLNetConfig, XLNetLMHeadModel

from laser_sweep.engine.models.positions import max_positions

BuildModel = Callable[..., PreTrainedModel]

CAUSAL = {"bert": 64, "opt": 64, "gpt2": 64, "gptj": 64, "llama": 64, "phi": 64, "roberta": 65}
"""RoBERTa has 66 rows; 0 is padding's here, so that tokens have 1..65."""
MASKED = {"bert": 66, "distilbert": 66, "electra": 66, "deberta_v2": 66, "modernbert": 66, "roberta": 64}


def ask(model: PreTrainedModel, tokens: int) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.full((1, tokens), 5)).logits
    return logits


@pytest.fixture
def build(build_model: BuildModel, build_masked: BuildModel) -> BuildModel:
    return lambda kind, name, **changes: (build_model if kind == "causal" else build_masked)(name, **changes)


@pytest.mark.parametrize(
    ("kind", "architecture", "tokens"),
    [("causal", *item) for item in CAUSAL.items()] + [("masked", *item) for item in MASKED.items()],
)
def test_a_model_reads_as_many_tokens_as_it_has_positions(
    kind: str, architecture: str, tokens: int, build: BuildModel
) -> None:
    model = build(kind, architecture)
    assert max_positions(model) == tokens
    assert ask(model, tokens).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [
        *(("causal", name) for name in ("bert", "opt", "gpt2", "gptj", "roberta")),
        *(("masked", name) for name in ("bert", "distilbert", "electra", "deberta_v2", "roberta")),
    ],
)
def test_a_model_that_has_learned_its_positions_cannot_read_one_token_more(
    kind: str, architecture: str, build: BuildModel
) -> None:
    model = build(kind, architecture)
    tokens = max_positions(model)
    assert tokens is not None
    with pytest.raises((IndexError, RuntimeError)):
        ask(model, tokens + 1)


@pytest.mark.parametrize("padding", [0, 1, 7])
def test_positions_of_tokens_begin_behind_the_padding_token(padding: int, build_masked: BuildModel) -> None:
    model = build_masked("roberta", pad_token_id=padding)
    assert max_positions(model) == 66 - padding - 1


def test_positions_are_counted_without_weights(build_masked: BuildModel, build_model: BuildModel) -> None:
    with torch.device("meta"):
        roberta: Any = AutoModelForMaskedLM.from_config(build_masked("roberta").config)
        gpt2: Any = AutoModelForCausalLM.from_config(build_model("gpt2").config)
    assert (max_positions(roberta), max_positions(gpt2)) == (64, 64)


def test_a_model_that_attends_by_distance_has_no_bound(build_model: BuildModel) -> None:
    model = build_model("bloom")
    assert max_positions(model) is None
    assert ask(model, 300).isfinite().all()


def test_a_negative_bound_is_none() -> None:
    model = XLNetLMHeadModel(XLNetConfig(vocab_size=40, d_model=32, n_layer=1, n_head=4, d_inner=48))
    assert max_positions(model) is None
