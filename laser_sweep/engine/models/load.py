"""Loads a model or its tokenizer with transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from laser_sweep.engine.models.checkpoint import Checkpoint, fetch_settings, fetch_weights
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.errors import RequestError, listing

_AUTO = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, "decision_transformer": AutoModel}


def load_model(checkpoint: Checkpoint, device: torch.device) -> PreTrainedModel:
    """The model on `device`, or spread over its like, in evaluation mode, without gradients. Reads safetensors only.

    Raises RequestError where weights are missing or have other shapes than the configuration says, or where not all
    find room on devices like `device`.
    """
    spec = checkpoint.spec
    _refuse_without_accelerate(spec)
    transformers_logging.disable_progress_bar()
    with _errors_only():
        loading: tuple[PreTrainedModel, dict[str, Any]] = _AUTO[checkpoint.family].from_pretrained(
            fetch_weights(checkpoint),
            dtype=getattr(torch, checkpoint.identity.dtype),
            attn_implementation=None if spec.attn_implementation == "auto" else spec.attn_implementation,
            device_map=None if spec.device_map == "single" else spec.device_map,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # which are refused here, in words of ours
            output_loading_info=True,
        )
    model, report = loading
    if report["mismatched_keys"]:
        name, found, expected = min(report["mismatched_keys"])
        raise RequestError(
            f"model.path={spec.path} does not fit its config.json: {name} is {list(found)} instead of {list(expected)}"
        )
    if report["missing_keys"]:
        raise RequestError(
            f"model.path={spec.path} lacks the weights {listing(sorted(report['missing_keys'])[:3])}"
            f"{' and others' if len(report['missing_keys']) > 3 else ''}; transformers would draw them at random"
        )
    model.requires_grad_(False)
    if spec.device_map == "single":
        nn.Module.to(model, device)
    refuse_offloaded(model, device)
    model.eval()
    return model


@contextmanager
def _errors_only() -> Iterator[None]:
    """Without the tables and warnings of transformers: what cannot be used is refused here, in a line."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def load_skeleton(checkpoint: Checkpoint) -> PreTrainedModel:
    """The model's modules without weights (meta device): enough to find its matrices, in any size, in moments."""
    _refuse_without_accelerate(checkpoint.spec)
    try:
        with _errors_only(), torch.device("meta"):
            config = AutoConfig.from_pretrained(checkpoint.directory, trust_remote_code=False)
            _refuse_other_family(checkpoint, config)
            skeleton: PreTrainedModel = _AUTO[checkpoint.family].from_config(config, trust_remote_code=False)
    except RequestError:
        raise
    except Exception as error:  # what transformers raises over a damaged file may be anything
        _refuse_own_code(checkpoint.spec, error)
        reason = " ".join(str(error).split())
        raise RequestError(f"model.path={checkpoint.spec.path} cannot be built by transformers: {reason}") from None
    return skeleton


def _refuse_other_family(checkpoint: Checkpoint, config: PreTrainedConfig) -> None:
    """A model that was trained to fill in masks does not continue text, nor the other way round."""
    path = f"model.path={checkpoint.spec.path}"
    decides = config.model_type == "decision_transformer"
    if decides != (checkpoint.family == "decision_transformer"):
        right = "model.family=decision_transformer" if decides else "model.family=causal or masked"
        raise RequestError(f"{path} is a {config.model_type} model; give {right}, or leave model.family=auto")
    fills_masks = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    continues_text = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    is_decoder = getattr(config, "is_decoder", None)
    if checkpoint.family == "causal" and fills_masks and not (continues_text and is_decoder in (None, True)):
        why = "is_decoder=false in its config.json" if continues_text else f"a {config.model_type} model"
        raise RequestError(
            f"{path} reads in both directions ({why}), so it cannot continue a prompt; "
            "model.family=masked asks it for the word behind a mask"
        )
    if checkpoint.family == "masked":
        if not fills_masks:
            raise RequestError(
                f"{path} is a {config.model_type} model, which fills in no masks; give model.family=causal"
            )
        if is_decoder:
            raise RequestError(
                f"{path} reads from left to right (is_decoder=true in its config.json); give model.family=causal"
            )
        if getattr(config, "is_encoder_decoder", False):
            raise RequestError(f"{path} has an encoder and a decoder; give a model that is one of them")


def _refuse_own_code(spec: ModelSpec, error: Exception) -> None:
    if "trust_remote_code" in str(error):
        raise RequestError(
            f"model.path={spec.path} comes with Python code of its own, which is never run; "
            "give a model whose architecture and tokenizer are those of transformers itself"
        ) from None


def _refuse_without_accelerate(spec: ModelSpec) -> None:
    if spec.device_map != "single" and find_spec("accelerate") is None:
        raise RequestError(
            f"model.device_map={spec.device_map} needs accelerate: pip install 'laser-sweep[multi-gpu]', "
            "or give model.device_map=single"
        )


def refuse_offloaded(model: PreTrainedModel, device: torch.device) -> None:
    """An edit of a weight that accelerate keeps elsewhere would be lost when it is fetched for the next pass."""
    elsewhere = {name: p.device for name, p in model.named_parameters() if p.device.type != device.type}
    if elsewhere:
        name, place = next(iter(elsewhere.items()))
        where = "main memory or disk" if place.type == "meta" else str(place)
        raise RequestError(
            f"{len(elsewhere)} weights of {type(model).__name__} found no room on the worker's {device.type} devices, "
            f"e.g. {name}, which is left in {where}, where an edit would be lost; give the worker more GPUs with "
            "cluster.gpus_per_worker=<n>, or a smaller model.dtype"
        )


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerBase:
    """The fast tokenizer of the model."""
    try:
        with _errors_only():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                fetch_settings(checkpoint), trust_remote_code=False
            )
    except Exception as error:  # the tokenizers library raises nothing more special
        _refuse_own_code(checkpoint.spec, error)
        reason = " ".join(str(error).split())
        raise RequestError(f"model.path={checkpoint.spec.path} has no usable tokenizer: {reason}") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes one up where there are no files
        raise RequestError(f"model.path={checkpoint.spec.path} has no usable tokenizer: it knows no words")
    return tokenizer
