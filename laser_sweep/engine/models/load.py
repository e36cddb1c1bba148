"""Loads a model or its tokenizer with transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from laser_sweep.engine.models.checkpoint import Checkpoint, fetch_weights
from laser_sweep.errors import RequestError, listing


def load_model(checkpoint: Checkpoint, device: torch.device) -> PreTrainedModel:
    """The model on `device`, in evaluation mode, without gradients. Reads safetensors only."""
    spec = checkpoint.spec
    transformers_logging.disable_progress_bar()
    loading: tuple[PreTrainedModel, dict[str, Any]] = AutoModelForCausalLM.from_pretrained(  # type: ignore[assignment]
        fetch_weights(checkpoint),
        dtype=getattr(torch, checkpoint.identity.dtype),
        attn_implementation=None if spec.attn_implementation == "auto" else spec.attn_implementation,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    model, report = loading
    if report["missing_keys"]:
        raise RequestError(
            f"model.path={spec.path} lacks the weights {listing(sorted(report['missing_keys'])[:3])}"
            f"{' and others' if len(report['missing_keys']) > 3 else ''}; transformers would draw them at random"
        )
    model.requires_grad_(False)
    nn.Module.to(model, device)
    model.eval()
    return model


def load_skeleton(checkpoint: Checkpoint) -> PreTrainedModel:
    """The model's modules without weights (meta device): enough to find its matrices, in any size, in moments."""
    try:
        config = AutoConfig.from_pretrained(checkpoint.directory, trust_remote_code=False)
        with torch.device("meta"):
            skeleton: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"model.path={checkpoint.spec.path} cannot be built by transformers: {reason}") from None
    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", True):
        raise RequestError(
            f"model.path={checkpoint.spec.path} reads in both directions (is_decoder=false in its config.json); "
            "give a model that reads from left to right"
        )
    return skeleton


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The fast tokenizer of the model."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            checkpoint.directory, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"model.path={checkpoint.spec.path} has no usable tokenizer: {reason}") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes one up where there are no files
        raise RequestError(f"model.path={checkpoint.spec.path} has no usable tokenizer: it knows no words")
    return tokenizer
