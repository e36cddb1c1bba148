"""How long a prompt may be."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def max_positions(model: PreTrainedModel) -> int | None:
    """How many tokens a model reads at once, None where neither its configuration nor its embeddings set a bound.

    Needs no weights.
    """
    bounds = [_configured(model), *_learned_after_padding(model)]
    return min((bound for bound in bounds if bound is not None), default=None)


def _configured(model: PreTrainedModel) -> int | None:
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "n_positions"):
        bound = getattr(config, name, None)
        if isinstance(bound, int) and bound > 0:  # XLNet says -1 for no bound
            return bound
    return None


def _learned_after_padding(model: PreTrainedModel) -> list[int]:
    """RoBERTa's kind keep a row for padding and count up from the next: of 514 rows, 512 are positions of tokens."""
    return [
        module.num_embeddings - module.padding_idx - 1
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx is not None
    ]
