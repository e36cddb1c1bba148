"""Makes transformers' own `from_pretrained` read factored checkpoints; to import this module is enough.

transformers replaces modules before it reads weights for quantised checkpoints only, so ours say that they are one, of
the method `laser_sweep`. Nothing is quantised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from laser_sweep.errors import RequestError
from laser_sweep.export.factored import FactoredLinear, FactoredShape

METHOD = "laser_sweep"
VERSION = 1


@register_quantization_config(METHOD)
class FactoredConfig(QuantizationConfigMixin):
    """What `quantization_config` in config.json says: which modules are factored, and the sizes of their parts."""

    def __init__(self, maps: Mapping[str, Mapping[str, Any]], version: int = VERSION, **_: Any) -> None:
        if version > VERSION:
            raise RequestError(
                f"the checkpoint is of version {version} of the factored form, and this laser_sweep reads {VERSION}; "
                "update it with pip install -U laser-sweep"
            )
        self.quant_method = METHOD  # type: ignore[assignment] # transformers types its own methods alone
        self.version = version
        self.maps = {name: dict(shape) for name, shape in maps.items()}


@register_quantizer(METHOD)
class FactoredQuantizer(HfQuantizer):
    """Puts a `FactoredLinear` in the place of every linear map that is stored as factors."""

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **options: Any) -> None:
        assert isinstance(self.quantization_config, FactoredConfig)  # transformers made it by the method's name
        for name, values in self.quantization_config.maps.items():
            replace_module(model, name, FactoredShape.read(values))

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True


def replace_module(model: nn.Module, name: str, shape: FactoredShape) -> None:
    """Puts a map of factors, all zero, in the place of a linear one. Raises RequestError where none of its size is."""
    owner_name, _, last = name.rpartition(".")
    try:
        owner = model.get_submodule(owner_name)
        dense = owner.get_submodule(last)
    except AttributeError:
        raise RequestError(
            f"the checkpoint has factors of {name}, which {type(model).__name__} does not have"
        ) from None
    if not isinstance(dense, nn.Linear | Conv1D):
        raise RequestError(f"the checkpoint has factors of {name}, which is no linear map but a {type(dense).__name__}")
    size = tuple(dense.weight.T.shape) if isinstance(dense, Conv1D) else tuple(dense.weight.shape)
    if size != (shape.out_features, shape.in_features):
        raise RequestError(
            f"the checkpoint has factors of a {shape.out_features} x {shape.in_features} matrix for {name}, "
            f"which is {size[0]} x {size[1]}"
        )
    factored = FactoredLinear(shape, bias=dense.bias is not None, device=dense.weight.device, dtype=dense.weight.dtype)
    setattr(owner, last, factored.train(dense.training))
