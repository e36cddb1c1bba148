"""Writes an edited model as a checkpoint, file by file and tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from laser_sweep.engine.editing.cache import FactorCache
from laser_sweep.engine.models.checkpoint import SETTINGS, Checkpoint, fetch_weights
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.load import load_skeleton
from laser_sweep.errors import RequestError
from laser_sweep.export.edited import EditedMatrix, EditedTensor
from laser_sweep.export.files import INDEX, Part, Shard, StoredTensor, made_part, read_shards, write_file, write_index
from laser_sweep.export.places import Place, find_places
from laser_sweep.export.quantizer import METHOD, VERSION
from laser_sweep.trial import Edit

Form: TypeAlias = Literal["dense", "factored"]
_BESIDE = (*SETTINGS, "LICENSE*", "NOTICE*")


@dataclass(slots=True)
class Written:
    """What a checkpoint consists of: its edited matrices, the maps that are factored, bytes before and now."""

    form: Form
    bytes_before: int = 0
    bytes_now: int = 0
    matrices: list[EditedMatrix] = field(default_factory=list)
    maps: dict[str, Any] = field(default_factory=dict)


class Exporter:
    """Writes the edits of one model; the base model's tensors are read when they are needed and not before."""

    def __init__(self, base: Checkpoint, edits: Sequence[Edit], cache: FactorCache | None) -> None:
        """Raises RequestError where the model cannot be had or an edited matrix cannot be found in its files."""
        self._base = base
        self._directory = fetch_weights(base)
        self._shards = read_shards(self._directory)
        self._model = load_skeleton(base)
        layout = find_layout(self._model, base.spec.roles)
        tensors = [tensor for shard in self._shards for tensor in shard.tensors]
        places = find_places(self._model, layout, (edit.matrix for edit in edits), tensors)
        by_tensor: dict[str, list[tuple[Edit, Place]]] = {}
        for edit in edits:
            by_tensor.setdefault(places[edit.matrix].tensor.name, []).append((edit, places[edit.matrix]))
        dtype = getattr(torch, base.identity.dtype)
        self._edited = {
            name: EditedTensor(found[0][1].tensor, found, dtype, cache) for name, found in by_tensor.items()
        }

    @property
    def num_shards(self) -> int:
        return len(self._shards)

    def check(self, form: Form) -> None:
        """Raises RequestError where the model cannot be written in this form."""
        for tensor in self._edited.values() if form == "factored" else ():
            owner = self._model.get_submodule(tensor.parameter.rpartition(".")[0])
            if not isinstance(owner, nn.Linear | Conv1D):
                raise RequestError(
                    f"{tensor.edits[0][0].matrix} is one of the experts that {type(owner).__name__} holds and applies "
                    "as one tensor, in which no factors can take its place; give --form dense"
                )

    def write(self, directory: Path, form: Form) -> Written:
        """Writes weights, configuration and tokenizer. Raises RequestError and OSError."""
        self.check(form)
        written = Written(form)
        shards = {shard.name: self._write_shard(shard, directory, written) for shard in self._shards}
        if self._shards[0].name != "model.safetensors":
            write_index(directory, shards)
        self._copy_settings(directory)
        self._write_config(directory, written)
        return written

    def _write_shard(self, shard: Shard, directory: Path, written: Written) -> list[Part]:
        parts = [part for tensor in shard.tensors for part in self._parts(tensor, written)]
        write_file(directory / shard.name, parts, shard.metadata or {"format": "pt"})
        written.bytes_before += sum(tensor.end - tensor.start for tensor in shard.tensors)
        written.bytes_now += sum(part.num_bytes for part in parts)
        return parts

    def _parts(self, stored: StoredTensor, written: Written) -> list[Part]:
        """The tensors that take the place of one of the base model's."""
        tensor = self._edited.get(stored.name)
        if tensor is None:
            return [stored.as_part()]
        factored = tensor.factored() if written.form == "factored" else None
        if factored is None:

            def make() -> torch.Tensor:
                dense = tensor.dense()
                written.matrices += dense.matrices
                return dense.values

            return [made_part(stored.name, stored.shape, tensor.dtype, make)]
        module = tensor.parameter.removesuffix(".weight")
        written.matrices += factored.matrices
        written.maps[module] = asdict(factored.shape)
        return [_part(f"{module}.{name}", values) for name, values in factored.parts.items()]

    def _copy_settings(self, directory: Path) -> None:
        """Tokenizer, generation settings and the like, as they are."""
        for source in {self._directory, self._base.directory}:
            for file in {file for pattern in _BESIDE for file in source.glob(pattern) if file.is_file()}:
                if file.name != INDEX and not file.name.endswith(".index.json"):
                    shutil.copyfile(file, directory / file.name)

    def _write_config(self, directory: Path, written: Written) -> None:
        """Adds to config.json the dtype of the trial and which maps are factored, where that is anything new."""
        file = directory / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        changed = {key: value for key, value in config.items() if key != "torch_dtype"}
        changed["dtype"] = self._base.identity.dtype
        if written.maps:
            changed["quantization_config"] = {"quant_method": METHOD, "version": VERSION, "maps": written.maps}
        elif (config.get("dtype") or config.get("torch_dtype") or "float32") == changed["dtype"]:
            return
        file.write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")


def _part(name: str, values: torch.Tensor) -> Part:
    return made_part(name, values.shape, values.dtype, lambda: values)
