"""The embedded model can be made again, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from laser_sweep.demo.__main__ import main

Load = Callable[[Path], Any]
FILES = {"config.json", "examples.parquet", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_two_trainings_write_the_same_bytes(
    tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In two processes, of which one was told to use more threads and has used its random numbers before."""
    before = contents(assets)
    subprocess.run(
        [sys.executable, "-m", "laser_sweep.demo", "--steps", "8", "--to", str(tmp_path / "one")],
        check=True,
        timeout=200,
        capture_output=True,
    )
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["demo", "--steps", "8", "--to", str(tmp_path / "other")])
    torch.rand(5)
    try:
        torch.set_num_threads(2)
        main()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")
    assert set(contents(tmp_path / "one")) == FILES == {name for name in before if not name.startswith(".")}
    assert contents(assets) == before
    assert f"wrote {tmp_path / 'other'}" in capsys.readouterr().out


@pytest.mark.parametrize("steps", ["0", "-3", "many"])
def test_a_number_of_steps_that_cannot_be_is_refused(
    steps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--steps", steps, "--to", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert steps in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_full_training_makes_a_model_like_the_shipped_one(
    tmp_path: Path, shipped: Any, load_demo: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", "--to", str(tmp_path / "full")])
    main()
    again = load_demo(tmp_path / "full")
    assert again.examples.equals(shipped.examples)
    for edits in ({}, {"transformer.h.1.mlp.fc_in.weight": 0.01}, {"transformer.h.1.mlp.fc_out.weight": 0.01}):
        assert again.accuracy(edits) == pytest.approx(shipped.accuracy(edits), abs=0.02)
