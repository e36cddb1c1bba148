"""LASER: find, measure and keep the low-rank edit that makes a transformer better at a task."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load(directory: str | PathLike[str], **options: Any) -> PreTrainedModel:
    """The model that `python -m laser_sweep.export` wrote to a directory, in evaluation mode.

    `options` are those of transformers' `from_pretrained`. Raises RequestError where no model was exported there.
    """
    from laser_sweep.export.load import load_export  # the package itself imports no torch

    return load_export(directory, **options)
