"""What docs/security.md promises: nothing from data runs as code, nothing is served to or written at other places."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import laser_sweep
from laser_sweep.dashboard.server import bind
from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.models.checkpoint import Checkpoint, fetch_weights, find_checkpoint
from laser_sweep.engine.models.load import load_skeleton, load_tokenizer
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import AskedModel
from laser_sweep.engine.tasks.registry import load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError
from laser_sweep.store.reader import find_trial, read_predictions
from laser_sweep.store.schema import PREDICTIONS, TRIALS
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.executors.ray import RayExecutor
from laser_sweep.sweep.executors.spec import ClusterSpec

PACKAGE = Path(laser_sweep.__file__).parent
ASSETS = PACKAGE / "demo" / "assets"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "launchers").rglob("*.py")])
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "shelve",
    "marshal",
    "jsonpickle",
    "commands",
}
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "os.system", "os.popen"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "pandas.read_pickle"),
    *("importlib.import_module", "importlib.util.spec_from_file_location", "runpy.run_path", "runpy.run_module"),
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def said(call: ast.Call, name: str) -> object:
    """The constant that a call gives for a keyword."""
    given = [one.value for one in call.keywords if one.arg == name]
    return given[0].value if given and isinstance(given[0], ast.Constant) else None


def dangers(source: str) -> Iterator[str]:
    """The places where text or bytes could run as code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = names if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in modules if name.partition(".")[0] in MODULES)
            if isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{name}" for name in names if f"{node.module}.{name}" in CALLS)
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        last = name.rpartition(".")[2]
        if name in NAMES or name in CALLS or last == "read_pickle":
            yield name
        if said(node, "allow_pickle") or said(node, "shell") or said(node, "weights_only") is False:
            yield f"{name} with an option that lets code through"
        if last in ("from_pretrained", "from_config") and said(node, "trust_remote_code") is not False:
            yield f"{name} without trust_remote_code=False"
        if (
            last == "from_pretrained"
            and "AutoModel" in ast.dump(node.func)
            and said(node, "use_safetensors") is not True
        ):
            yield f"{name} without use_safetensors=True"
        if last == "load_dataset" and not (
            node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == "parquet"
        ):
            yield f"{name} of anything but Parquet files"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PACKAGE.parent)))
def test_no_source_unpickles_or_runs_what_it_reads(file: Path) -> None:
    assert list(dangers(file.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load(f)",
        "from torch import hub, load",
        "eval('1')",
        "exec(text)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f, Loader)",
        "yaml.unsafe_load(f)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "import joblib.numpy_pickle",
        "frame.read_pickle(f)",
        "AutoModel.from_pretrained(d, trust_remote_code=False)",
        "AutoTokenizer.from_pretrained(d)",
        "AutoConfig.from_pretrained(d, trust_remote_code=True)",
        "datasets.load_dataset(name)",
        "torch.load(f, weights_only=False)",
    ],
)
def test_the_search_for_dangers_finds_them(source: str) -> None:
    assert list(dangers(source)) != []


def loading_calls(source: str) -> int:
    """How often a source calls `from_pretrained`; what it merely prints is not counted."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return sum(
        dotted(call.func).endswith("from_pretrained") or "attr='from_pretrained'" in ast.dump(call.func)
        for call in calls
    )


def test_the_models_are_loaded_where_the_search_for_dangers_looks() -> None:
    calls = {file: loading_calls(file.read_text()) for file in SOURCES}
    loading = [str(file.relative_to(PACKAGE)) for file, count in calls.items() if count]
    assert loading == ["engine/models/load.py", "engine/tasks/hotpotqa.py", "export/load.py"]
    text = (PACKAGE / "engine" / "models" / "load.py").read_text()
    assert text.count("use_safetensors=True") == text.count("_AUTO[checkpoint.family].from_pretrained(") == 1


class Planted:
    """Unpickled, it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    shutil.copytree(ASSETS, directory, ignore=shutil.ignore_patterns("*.parquet"))
    return directory


def checkpoint(directory: Path) -> Checkpoint:
    return find_checkpoint(ModelSpec(name="planted", path=str(directory)))


def test_pickled_weights_are_refused_and_never_opened(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    with pytest.raises(RequestError, match=r"has no safetensors weights .*; pickled ones are not read"):
        fetch_weights(checkpoint(model))
    assert not (tmp_path / "ran").exists()


def test_an_architecture_that_comes_with_a_model_is_refused_and_never_run(model: Path, tmp_path: Path) -> None:
    write_code(model, tmp_path / "ran")
    change(model / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(RequestError, match="comes with Python code of its own, which is never run"):
        load_skeleton(checkpoint(model))
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_that_comes_with_a_model_is_never_run(model: Path, tmp_path: Path) -> None:
    """Its words are read where they stand in a file that transformers reads itself."""
    words = load_tokenizer(checkpoint(model)).get_vocab()
    write_code(model, tmp_path / "ran")
    change(model / "tokenizer_config.json", tokenizer_class="Own", auto_map={"AutoTokenizer": ["own.Own", None]})
    assert load_tokenizer(checkpoint(model)).get_vocab() == words
    assert not (tmp_path / "ran").exists()


def write_code(model: Path, proof: Path) -> None:
    (model / "own.py").write_text(f"import pathlib\npathlib.Path({str(proof)!r}).touch()\n")


def change(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def test_a_parquet_file_is_read_as_data(tmp_path: Path) -> None:
    """A data set's directory may hold a script and a card that say how to load it; only the named file counts."""
    rows = {"prompt": ["amber named amber named"] * 9, "answer": ["amber"] * 9}
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rows.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: rows.py\n---\n")
    spec = DatasetSpec(name="rows", format="prompt_answer", path=str(tmp_path / "rows.parquet"))
    asked = AskedModel("causal", lambda: load_tokenizer(checkpoint(ASSETS)))
    assert len(load_task(spec, asked).examples) == 9
    assert not (tmp_path / "ran").exists()


KEYS = ["../../secret", "..", "/etc/passwd", "trials/../../secret", "%2e%2e%2fsecret", "", " ", "*", "%"]


def store_with(root: Path, key: str) -> Path:
    """A store that somebody sent: its one trial has this key."""
    (root / "trials").mkdir(parents=True)
    row = {field.name: None for field in TRIALS} | {
        **{"trial_key": key, "sweep": "../up", "model": "m", "dataset": "d", "split": "val", "status": "done"},
        **{"edits": [], "accuracy": 0.5, "log_loss": 1.0, "num_examples": 9, "config_json": "{}", "schema_version": 1},
    }
    pq.write_table(pa.Table.from_pylist([row], schema=TRIALS), root / "trials" / "one.parquet")
    (root / "predictions").mkdir()
    answer = {field.name: None for field in PREDICTIONS} | {"trial_key": key, "example_id": "inside"}
    pq.write_table(pa.Table.from_pylist([answer], schema=PREDICTIONS), root / "predictions" / "one.parquet")
    return root


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_looked_up_and_is_no_path(key: str, tmp_path: Path) -> None:
    store = store_with(tmp_path / "a" / "b" / "store", "0123456789abcdef")
    for name in ("secret.parquet", "a/secret.parquet"):
        pd.DataFrame({"trial_key": [key], "example_id": ["outside"]}).to_parquet(tmp_path / name)
    with pytest.raises(RequestError):
        find_trial(store, key)
    assert read_predictions(store, key).empty
    assert ParquetStore(store).scores(key) is None


def test_names_inside_a_store_lead_to_no_file_outside_of_it(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    store = store_with(root / "store", "../../../evil")
    ParquetStore(store).compact()
    lines = [
        ["laser_sweep.report", str(store), "--to", str(root / "report.html")],
        ["laser_sweep.store", "export", str(store), "--to", str(root / "trials.csv")],
    ]
    for line in lines:
        subprocess.run([sys.executable, "-m", *line], cwd=root, capture_output=True, timeout=120)
    assert (root / "trials.csv").exists()
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and store not in path.parents]
    assert {path.name for path in outside} <= {"report.html", "trials.csv"}
    assert {path.parent for path in outside} <= {root}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Where a dashboard listens."""
    (tmp_path / "secret.txt").write_text("outside")
    server = bind(str(store_with(tmp_path / "store", "0123456789abcdef")), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.socket.getsockname()
    server.shutdown()
    thread.join()
    server.server_close()


def own_address() -> str:
    """This machine's address towards others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_the_dashboard_listens_to_this_machine_alone(address: tuple[str, int]) -> None:
    host, port = address
    assert host == "127.0.0.1"
    with socket.create_connection((host, port), timeout=5):
        pass
    try:
        elsewhere = own_address()
    except OSError:
        pytest.skip("this machine has no other address")
    if elsewhere.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((elsewhere, port), timeout=5)


def get(address: tuple[str, int], path: str, host: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{address[1]}{path}")
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_dashboard_answers_to_no_other_name(address: tuple[str, int]) -> None:
    assert get(address, "/")[0] == 200
    assert get(address, "/", host=f"127.0.0.1:{address[1]}")[0] == 200
    for name in ("evil.example", f"evil.example:{address[1]}", "127.0.0.1.evil.example", "0.0.0.0"):
        assert get(address, "/", host=name)[0] == 403


@pytest.mark.parametrize("up", ["../", "..%2f", "%2e%2e/", "..%5c", "....//"])
@pytest.mark.parametrize("under", ["/", "/assets/", "/_dash-component-suites/", "/trial?trial="])
def test_the_dashboard_serves_no_file_beside_its_own(up: str, under: str, address: tuple[str, int]) -> None:
    _, body = get(address, f"{under}{up * 6}secret.txt")
    assert b"outside" not in body


def test_rays_dashboard_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    asked: dict[str, Any] = {}

    def init(**options: Any) -> None:
        asked.update(options)
        raise ValueError("not started here")

    monkeypatch.setattr(ray, "init", init)
    executor = RayExecutor([], ClusterSpec(), CacheSpec())
    with pytest.raises(RequestError, match="not started here"):
        list(executor.run([], claim=lambda work: True))
    assert asked["address"] == "local"
    assert asked["include_dashboard"] is False
