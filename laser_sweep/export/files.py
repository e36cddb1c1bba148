"""The safetensors files of a checkpoint, read and written one tensor at a time.

A file is the length of its header (8 bytes, little-endian), the header (JSON: dtype, shape and place of each tensor),
and the bytes of the tensors one after another. A tensor that is not edited goes from file to file as bytes, so that no
more than one is ever in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open

from laser_sweep.errors import RequestError

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_CHUNK = 1 << 24
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
}
_ALIGNMENT = 8  # of the first tensor


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file, whose bytes are those from `start` to `end`."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def read(self) -> torch.Tensor:
        """Its values, mapped from the file."""
        with safe_open(self.file, framework="pt") as opened:
            tensor: torch.Tensor = opened.get_tensor(self.name)
        return tensor

    def as_part(self) -> Part:
        """The same tensor for another file."""
        return Part(self.name, self.dtype, self.shape, self.end - self.start, self._copy)

    def _copy(self, target: BinaryIO) -> None:
        with self.file.open("rb") as source:
            source.seek(self.start)
            left = self.end - self.start
            while left:
                chunk = source.read(min(left, _CHUNK))
                if not chunk:
                    raise RequestError(f"{self.file} ends in the middle of {self.name}; fetch the base model again")
                target.write(chunk)
                left -= len(chunk)


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor of a file that is to be written; `write` writes its `num_bytes`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    write: Callable[[BinaryIO], None]


def made_part(name: str, shape: Sequence[int], dtype: torch.dtype, make: Callable[[], torch.Tensor]) -> Part:
    """A tensor of this size that is made when it is written."""
    num_bytes = dtype.itemsize
    for size in shape:
        num_bytes *= size

    def write(target: BinaryIO) -> None:
        tensor = make().to(dtype).contiguous()
        if tensor.numel():
            target.write(tensor.flatten().view(torch.uint8).numpy().data)

    return Part(name, _DTYPES[dtype], tuple(shape), num_bytes, write)


@dataclass(frozen=True, slots=True)
class Shard:
    """One file: its tensors in order, and what its header says besides."""

    name: str
    tensors: tuple[StoredTensor, ...]
    metadata: Mapping[str, str]


def read_shards(directory: Path) -> tuple[Shard, ...]:
    """The files that transformers would load, without their tensors. Raises RequestError for one that is damaged."""
    if (directory / _SINGLE).is_file():
        names = [_SINGLE]
    elif (directory / INDEX).is_file():
        names = sorted(set(_read_json(directory / INDEX)["weight_map"].values()))
    else:
        raise RequestError(f"{directory} holds neither {_SINGLE} nor {INDEX}")
    return tuple(_read_shard(directory / name) for name in names)


def _read_shard(file: Path) -> Shard:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= file.stat().st_size - 8:
                raise ValueError("its header is cut off")
            header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__", {})
        tensors = tuple(
            StoredTensor(file, name, said["dtype"], tuple(said["shape"]), *(8 + length + at for at in _offsets(said)))
            for name, said in sorted(header.items(), key=lambda one: _offsets(one[1]))
        )
    except FileNotFoundError:
        raise RequestError(f"{file} is missing; fetch the base model again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{file} is no safetensors file ({error}); fetch the base model again") from None
    return Shard(file.name, tensors, metadata)


def _offsets(said: Mapping[str, Any]) -> tuple[int, int]:
    start, end = said["data_offsets"]
    return start, end


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return values
    except ValueError as error:
        raise RequestError(f"{file} is damaged ({error}); fetch the base model again") from None


def write_file(target: Path, parts: Sequence[Part], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file, one tensor after the other, and makes it last. Raises OSError."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for part in parts:
        start, end = end, end + part.num_bytes
        header[part.name] = {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with target.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            before = stream.tell()
            part.write(stream)
            if stream.tell() - before != part.num_bytes:
                raise RuntimeError(f"{part.name} took {stream.tell() - before} bytes instead of {part.num_bytes}")
        stream.flush()
        os.fsync(stream.fileno())


def write_index(directory: Path, shards: Mapping[str, Sequence[Part]]) -> None:
    """The file that says which tensor is where, for a checkpoint of several files."""
    weight_map = {part.name: file for file, parts in shards.items() for part in parts}
    size = sum(part.num_bytes for parts in shards.values() for part in parts)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
