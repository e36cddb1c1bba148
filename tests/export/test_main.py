"""The command: what it prints, and one clear line for what it cannot do."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import laser_sweep
from laser_sweep.errors import RequestError
from laser_sweep.export.factored import FactoredLinear
from laser_sweep.store.reader import read_trials

Export = Callable[..., Any]
KeyOf = Callable[..., str]


def left_behind(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_the_best_trial_is_exported_as_factors_and_verified(export: Export, key_of: KeyOf) -> None:
    ended = export("best", "--to", "new", "--form", "factored", "--verify")
    assert (ended.code, ended.err) == (0, "")
    numbers = 1 * (512 + 128)
    assert f"trial {key_of(0.01)}" in ended.out
    assert re.search(rf"fc_in\[1\] rho=0.01 +512 x 128 +1 +{numbers} +65,536 +1.0 +{4 * numbers:,}", ended.out)
    assert f"edited in memory  {4 * numbers:,} bytes, measured on the loaded model" in ended.out
    for split, count in (("val", 40), ("test", 60)):
        found = re.search(
            rf"on {split} \({count} examples\): accuracy (.*) %, stored (.*) %; .* by at most (.*) n", ended.out
        )
        assert found is not None
        assert found[1] == found[2]
        assert float(found[3]) <= 1e-5
    module = laser_sweep.load("new").transformer.h[1].mlp.fc_in
    assert isinstance(module, FactoredLinear)
    assert sum(part.numel() for part in (module.weight, *module.left)) == numbers
    assert left_behind(Path()) == ["new"]


def test_a_dense_export_is_an_ordinary_checkpoint_with_tokenizer_and_card(export: Export, key_of: KeyOf) -> None:
    ended = export(key_of(0.2)[:10], "--to", "deep/new")
    assert (ended.code, ended.err) == (0, "")
    model, tokenizer = AutoModelForCausalLM.from_pretrained("deep/new"), AutoTokenizer.from_pretrained("deep/new")
    assert torch.linalg.matrix_rank(model.transformer.h[1].mlp.fc_in.weight) == int(128 * 0.2)
    assert tokenizer.decode(tokenizer("the").input_ids) == "the"
    assert "quantization_config" not in json.loads(Path("deep/new/config.json").read_text())
    card = Path("deep/new/README.md").read_text()
    assert "| `fc_in[1]` | 512 x 128 | laser | 0.2 | 25 | 65,536 | 65,536 |" in card
    assert f"python -m laser_sweep.export {key_of(0.2)[:10]} --to deep/new" in card


def test_the_card_says_what_was_measured_on_both_splits(export: Export, store: Path, key_of: KeyOf) -> None:
    export("best", "--to", "new")
    card = Path("new/README.md").read_text()
    trials = read_trials(store).set_index("trial_key")
    for split in ("val", "test"):
        for rho, name in ((None, "untouched"), (0.01, "this model")):
            row = trials.loc[key_of(rho, split)]
            accuracy = f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_stderr']:.1f}"
            assert f"| {split} | {name} | {row['num_examples']} | {accuracy} | {row['log_loss']:.3f} |" in card
        row = trials.loc[key_of(0.01, split)]
        assert re.search(
            rf"\| {split} \| this model .* \| \+{100 * row['gain']:.1f} ± .* \| {row['gain_p_value']:.2g} \|", card
        )
    assert row["model_revision"] in card
    said = json.loads(Path("new/laser_sweep.json").read_text())
    assert (said["trial"], said["edits"][0]["rank"]) == (key_of(0.01), 1)


def test_a_trial_that_is_not_one_is_refused(export: Export, key_of: KeyOf, store: Path) -> None:
    keys = sorted(read_trials(store)["trial_key"])
    common = next((prefix for prefix in "0123456789abcdef" if sum(key.startswith(prefix) for key in keys) > 1), None)
    for asked, message in (
        ("zzzz", "trial zzzz is not in store.path="),
        (key_of(None), "is the untouched model; give the key of one with an edit"),
        *(() if common is None else ((common, f"trial {common} could be ")),),
    ):
        ended = export(asked, "--to", "new")
        assert ended.code == 2
        assert message in ended.err
        assert ended.err.count("\n") == 1
    assert export("best", "--to", "new", store=Path("nowhere")).err.count("there is no such directory") == 1
    assert left_behind(Path()) == []


def test_the_best_of_several_data_sets_is_named(
    export: Export, sweep: Callable[..., Path], store: Path, tmp_path: Path
) -> None:
    both = shutil.copytree(store, tmp_path / "both")
    sweep(both, "tau=fc_out", "layer=last", "rho=0.1", "model.dtype=float16")
    ended = export("best", "--to", "new", store=both)
    assert ended.code == 2
    assert re.search(r"has 2 best trials: \w{16} \(demo on demo\), \w{16} \(demo on demo\); give the key", ended.err)


def test_a_failed_trial_is_refused(export: Export, tmp_path: Path, key_of: KeyOf, store: Path) -> None:
    spoilt = shutil.copytree(store, tmp_path / "spoilt")
    file = spoilt / "trials" / f"{key_of(0.2)}.parquet"
    table = pq.read_table(file)
    for name, value in (("status", "failed"), ("error", "it broke")):
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array([value], field.type))
    pq.write_table(table, file)
    ended = export(key_of(0.2), "--to", "new", store=spoilt)
    assert (ended.code, ended.err) == (
        2,
        f"laser_sweep.export: trial {key_of(0.2)} failed, so it edited nothing: it broke\n",
    )


def test_what_is_there_is_kept_unless_it_is_an_export_and_may_go(export: Export) -> None:
    for name in ("file", "full"):
        Path("full").mkdir(exist_ok=True)
        Path("file").write_text("mine")
        Path("full/note").write_text("mine")
        ended = export("best", "--to", name, "--overwrite")
        assert ended.code == 2
        assert ended.err.startswith(f"laser_sweep.export: --to {name} ")
    assert export("best", "--to", "full").err.startswith("laser_sweep.export: --to full is there already; give another")
    assert Path("full/note").read_text() == Path("file").read_text() == "mine"
    assert export("best", "--to", "new").code == 0
    assert export("best", "--to", "new").code == 2
    assert export("best", "--to", "new", "--form", "factored", "--overwrite").code == 0
    assert "quantization_config" in json.loads(Path("new/config.json").read_text())
    assert left_behind(Path()) == ["file", "full", "new"]


def test_an_export_that_is_not_what_was_measured_is_not_kept(
    export: Export, tmp_path: Path, key_of: KeyOf, store: Path
) -> None:
    other = shutil.copytree(store, tmp_path / "other")
    file = other / "predictions" / f"{key_of(0.01)}.parquet"
    table = pq.read_table(file)
    place = table.schema.get_field_index("gold_log_prob")
    table = table.set_column(place, table.schema.field(place), pc.subtract(table["gold_log_prob"], 0.001))
    pq.write_table(table, file)
    ended = export("best", "--to", "new", "--verify", store=other)
    assert ended.code == 1
    assert ended.err == (
        f"laser_sweep.export: the export is not what trial {key_of(0.01)} measured: on val log p differs by 0.001 "
        "nats, and 1e-05 is allowed, which --tolerance changes; nothing was written\n"
    )
    assert left_behind(Path()) == []
    assert export("best", "--to", "new", "--tolerance", "0.01", store=other).err.endswith("; give --verify too\n")
    assert export("best", "--to", "new", "--verify", "--tolerance", "0.01", store=other).code == 0


@pytest.fixture
def own_model(sweep: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the embedded model in a directory, and the store of a sweep of it."""
    assets = Path(laser_sweep.__file__).parent / "demo" / "assets"
    model = shutil.copytree(assets, tmp_path / "model")
    (model / "examples.parquet").unlink()
    line = ("model=auto", f"model.path={model}", "tau=fc_in", "layer=last", "rho=0.01", "evaluation.confirm=false")
    return model, sweep(tmp_path / "own", *line)


def test_a_base_model_that_changed_or_went_is_refused(export: Export, own_model: tuple[Path, Path]) -> None:
    model, store = own_model
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    ended = export("best", "--to", "new", store=store)
    assert ended.code == 2
    assert re.search(r"edited model at revision \w{16}, but model.path=\S+ is now at \w{16}; bring the old", ended.err)
    shutil.rmtree(model)
    ended = export("best", "--to", "new", store=store)
    assert ended.code == 2
    assert f"model.path={model} is not a directory" in ended.err
    assert left_behind(Path()) == []


def test_a_disk_that_is_full_leaves_nothing_and_one_line(store: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f"{sys.executable} -m laser_sweep.export best --store {store} --to {disk}/new"
    line = f"mount -t tmpfs -o size=1m none {disk} && {command}; code=$?; ls -A {disk}; exit $code"
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no file system of its own can be had here")
    ended = subprocess.run(["unshare", "-rm", "sh", "-c", line], capture_output=True, text=True, timeout=200)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"laser_sweep.export: --to {disk}/new is on a disk that is full (No space left on device); "
        "nothing was written\n"
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_export_leaves_nothing(number: signal.Signals, code: int, store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "laser_sweep.export", "best", "--verify", "--store", str(store), "--to", "new"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob(".new.*.tmp/model.safetensors")) and time.monotonic() < deadline:
        assert running.poll() is None, running.stderr
        time.sleep(0.005)
    running.send_signal(number)
    _, err = running.communicate(timeout=200)
    assert running.returncode == code
    assert "Traceback" not in err
    assert left_behind(tmp_path) == []


def test_the_package_and_the_help_need_no_torch() -> None:
    script = (
        "import laser_sweep, sys, laser_sweep.export.chosen; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=200)
    asked = [sys.executable, "-X", "importtime", "-m", "laser_sweep.export", "--help"]
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0
    assert "--form {dense,factored}" in ended.stdout
    assert not re.search(r"\| +torch$", ended.stderr, re.MULTILINE)


def test_a_directory_that_is_no_export_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"is not a model that laser_sweep exported: it holds no readable laser_sweep"
    ):
        laser_sweep.load(tmp_path)
