"""Checkpoints in several files: what is copied, what is refused, and how much memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.errors import RequestError
from laser_sweep.export.checkpoint import Written
from laser_sweep.export.files import read_shards, write_file
from laser_sweep.trial import Edit, Matrix

Save = Callable[..., Checkpoint]
Write = Callable[..., tuple[Path, Written]]

EDITS = (Edit(matrix=Matrix("fc_in", 1), rho=0.1),)
EDITED = "model.layers.1.mlp.gate_proj.weight"


def test_a_file_written_here_is_what_the_library_reads_and_the_other_way_round(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.randn(7).bfloat16(),
        "none": torch.zeros(0, 4),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "fp8": torch.randn(6).to(torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (shard,) = read_shards(tmp_path)
    assert shard.metadata == {"format": "pt"}
    write_file(tmp_path / "copy.safetensors", [tensor.as_part() for tensor in shard.tensors], shard.metadata)
    copied = load_file(tmp_path / "copy.safetensors")
    assert copied.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert copied[name].dtype == tensor.dtype
        assert torch.equal(copied[name].float(), tensor.float())


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_files_are_cut_as_those_of_the_base_model(form: str, save: Save, write: Write) -> None:
    base = save("llama", shard="20KB")
    directory, written = write(base, EDITS, form)
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    before = json.loads((base.directory / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in base.directory.glob("*.safetensors"))
    assert len(files) > 2
    assert sorted(path.name for path in directory.glob("*.safetensors")) == files
    stored = {name: file for file in files for name in load_file(directory / file)}
    assert stored == index["weight_map"]
    expected = {name: file for name, file in before["weight_map"].items() if form == "dense" or name != EDITED}
    assert {name: file for name, file in stored.items() if name in expected} == expected
    if form == "factored":
        module = EDITED.removesuffix(".weight")
        assert {name: stored[name] for name in stored.keys() - expected.keys()} == {
            f"{module}.{part}": before["weight_map"][EDITED] for part in ("weight", "left.0")
        }
    for name, file in expected.items():
        if name != EDITED:
            assert torch.equal(load_file(directory / file)[name], load_file(base.directory / file)[name])
    assert written.bytes_now == index["metadata"]["total_size"]


def test_files_beside_the_weights_go_along_and_those_of_other_frameworks_do_not(save: Save, write: Write) -> None:
    base = save("llama")
    for name in ("LICENSE", "tokenizer.json", "pytorch_model.bin.index.json", "notes.md"):
        (base.directory / name).write_text(name)
    directory, _ = write(base, EDITS, "dense")
    assert sorted(path.name for path in directory.iterdir()) == [
        *("LICENSE", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    ]


def test_damaged_files_are_refused_in_a_line(save: Save, write: Write) -> None:
    base = save("llama", shard="20KB")
    first, second, *_ = sorted(base.directory.glob("*.safetensors"))
    whole = first.read_bytes()
    first.write_bytes(whole[:40])
    with pytest.raises(RequestError, match=rf"has a damaged {first.name}: "):
        write(base, EDITS, "dense")
    first.write_bytes(whole[:-8])
    with pytest.raises(RequestError, match=rf"has a damaged {first.name}: "):
        write(base, EDITS, "dense")
    first.write_bytes(whole)
    second.unlink()
    with pytest.raises(RequestError, match=rf"{second.name} is missing; fetch the base model again"):
        write(base, EDITS, "dense")


MEASURED = """
import resource, sys, torch
from pathlib import Path
from laser_sweep.engine.models.checkpoint import find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.export.checkpoint import Exporter
from laser_sweep.trial import Edit, Matrix
torch.linalg.eigh(torch.eye(4, dtype=torch.float64)), torch.ones(99, 99) @ torch.ones(99, 99)
edits = tuple(Edit(matrix=Matrix("fc_in", layer), rho=0.1) for layer in range(12))
exporter = Exporter(find_checkpoint(ModelSpec(name="mid", path=sys.argv[1])), edits, None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
exporter.write(Path(sys.argv[2]), sys.argv[3])
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_memory_stays_under_the_largest_file_and_one_matrix(form: str, save: Save, tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 8}
    base = save("llama", shard="32MB", **sizes, num_key_value_heads=8)
    files = [file.stat().st_size for file in base.directory.glob("*.safetensors")]
    assert sum(files) > 3 * max(files)
    target = tmp_path / "export"
    target.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, str(base.directory), str(target), form],
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < max(files) + 512 * 1024 * 4
