"""Which rows of a fused linear map belong to which role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

FUSED = ("c_attn", "qkv_proj", "query_key_value", "Wqkv", "gate_up_proj", "Wi")
"""How fused maps end their names."""
_KNOWN = (
    *("gpt2", "decision_transformer", "gpt_bigcode", "codegen", "phi3", "minimax", "gpt_neox", "bloom", "falcon"),
    *("modernbert", "modernbert-decoder"),
)
"""Model types whose fused maps are known, where their names do not say enough; in others they are left unnamed."""
_CODEGEN_SHARDS = 4  # CodeGen's queries, values and keys stand as its four accelerators held them


def fused_rows(name: str, owner: nn.Module, outputs: int, config: PreTrainedConfig) -> Mapping[str, torch.Tensor]:
    """The rows of each role in a fused map with `outputs` rows.

    `name` is the last part of its name, one of `FUSED`, and `owner` the module that applies it.
    """
    places = torch.arange(outputs)
    if name == "gate_up_proj":
        # transformers says of its experts how gate and up share the parameter
        gate, up = places.chunk(2) if getattr(owner, "is_concatenated", True) else (places[::2], places[1::2])
        return {"fc_in": gate, "fc_up": up}
    config = config.get_text_config()
    if config.model_type not in _KNOWN:
        return {}  # a guess could edit rows of another role
    if name == "Wi":
        activated, factor = places.chunk(
            2
        )  # what goes through the activation is the gate, whatever ModernBERT calls it
        return {"fc_in": activated, "fc_up": factor}
    if name == "Wqkv" or (name == "c_attn" and not hasattr(owner, "multi_query")):  # of GPT-BigCode, not GPT-2
        query, key, value = places.chunk(3)
    elif name == "qkv_proj" and config.model_type == "codegen":
        query, value, key = (part.flatten() for part in places.view(_CODEGEN_SHARDS, 3, -1).unbind(1))
    elif name == "qkv_proj" and config.model_type != "minimax":
        query, key, value = places.split(_grouped_sizes(config))
    else:
        query, key, value = _per_head(owner, places, config)
    return {"q_proj": query, "k_proj": key, "v_proj": value}


def _grouped_sizes(config: Any) -> list[int]:
    """Rows of q, k and v where they stand one after the other and keys may have fewer heads (Phi-3)."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    return [heads * head_dim, key_heads * head_dim, key_heads * head_dim]


def _per_head(owner: Any, places: torch.Tensor, config: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of q, k and v head by head: GPT-NeoX, BLOOM, MiniMax, GPT-BigCode's two layouts and Falcon's three."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    if getattr(owner, "new_decoder_architecture", False):
        groups = places.view(owner.num_kv_heads, heads // owner.num_kv_heads + 2, head_dim)
        return groups[:, :-2].flatten(), groups[:, -2].flatten(), groups[:, -1].flatten()
    if getattr(owner, "multi_query", False):
        query, key, value = places.split([heads * head_dim, head_dim, head_dim])
        return query, key, value
    per_head = places.view(heads, 3, head_dim)
    return per_head[:, 0].flatten(), per_head[:, 1].flatten(), per_head[:, 2].flatten()
