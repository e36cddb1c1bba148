"""Loads what was exported."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

import laser_sweep.export.quantizer  # noqa: F401 - from_pretrained then knows factored checkpoints
from laser_sweep.errors import RequestError
from laser_sweep.export.manifest import MANIFEST

_AUTO = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM, "decision_transformer": AutoModel}


def load_export(directory: str | PathLike[str], **options: Any) -> PreTrainedModel:
    """The exported model of a directory; `options` are those of `from_pretrained`."""
    file = Path(directory).expanduser() / MANIFEST
    try:
        auto = _AUTO[json.loads(file.read_text(encoding="utf-8"))["family"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise RequestError(
            f"{directory} is not a model that laser_sweep exported: it holds no readable {MANIFEST}; "
            "write one with python -m laser_sweep.export"
        ) from None
    model: PreTrainedModel = auto.from_pretrained(file.parent, trust_remote_code=False, use_safetensors=True, **options)
    return model
