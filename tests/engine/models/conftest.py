"""Tiny models that fill in masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
)

_SHAPE: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
}
_SPECIAL = {name: 0 for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id")}

CONFIGS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "roberta": (RobertaConfig, _SHAPE),
    "bert": (BertConfig, _SHAPE),
    "electra": (ElectraConfig, {**_SHAPE, "embedding_size": 16}),
    "deberta_v2": (
        DebertaV2Config,
        {**_SHAPE, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "share_att_key": False},
    ),
    "modernbert": (ModernBertConfig, {**_SHAPE, **_SPECIAL}),
    "distilbert": (
        DistilBertConfig,
        {"vocab_size": 40, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 66}
        | {"initializer_range": 0.3},
    ),
    "albert": (AlbertConfig, {**_SHAPE, "num_hidden_layers": 4, "embedding_size": 16}),
}


@pytest.fixture(scope="session")
def build_masked() -> Callable[..., PreTrainedModel]:
    """`build_masked(architecture, **config)`: a fresh model in evaluation mode."""

    def build(architecture: str, **changes: Any) -> PreTrainedModel:
        kind, shape = CONFIGS[architecture]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model: PreTrainedModel = AutoModelForMaskedLM.from_config(kind(**{**shape, **changes}))
        model.requires_grad_(False)
        return model.eval()

    return build
