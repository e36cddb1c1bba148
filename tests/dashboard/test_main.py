"""The command, and what it and its pages say of stores that are not as they should be."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from plotly.io.json import to_json_plotly

from laser_sweep.dashboard.__main__ import main
from laser_sweep.dashboard.app import Dashboard
from laser_sweep.dashboard.data import LiveStore
from laser_sweep.dashboard.server import check_store
from laser_sweep.dashboard.url import PAGES
from laser_sweep.store.store import ParquetStore

from ..measured import done, failed, right, trial, written
from .files import as_older_version, replace

UNTOUCHED = right(40, 60)
TRIALS = [trial(), *(trial(("fc_in", layer, 0.1)) for layer in range(3))]
RESULTS = [done(one, right(40 + place, 60), UNTOUCHED) for place, one in enumerate(TRIALS)]


def page(store: Path, address: str) -> str:
    """All that a page says."""
    whole, _ = Dashboard(LiveStore(store)).frame(address)
    return to_json_plotly(whole).replace("\\u002f", "/")


def test_it_says_where_it_is_and_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    written(tmp_path, RESULTS)
    process = subprocess.Popen(
        [sys.executable, "-m", "laser_sweep.dashboard", str(tmp_path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(f"laser_sweep.dashboard: {tmp_path} at http://127.0.0.1:")
    address = line.split(" at ")[1].split()[0]
    with urllib.request.urlopen(f"{address}_dash-layout", timeout=60) as answer:
        assert str(tmp_path) in answer.read().decode().replace("\\u002f", "/")
    process.send_signal(signal.SIGINT)
    said, wrong = process.communicate(timeout=60)
    assert process.returncode == 0
    assert (said.strip(), wrong) == ("", "")


def refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that is refused."""
    monkeypatch.setattr(sys, "argv", ["laser_sweep.dashboard", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_a_port_that_is_in_use_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, RESULTS)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused([str(tmp_path), "--port", str(port)], monkeypatch, capsys)
    assert line == (
        f"laser_sweep.dashboard: --port={port} cannot be had (Address already in use); "
        "choose another, or --port 0 for one that is free"
    )


@pytest.mark.parametrize("port", ["-1", "65536", "100000000000000000000"])
def test_a_number_that_is_no_port_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    line = refused([str(written(tmp_path, RESULTS).root), f"--port={port}"], monkeypatch, capsys)
    assert line.startswith(f"laser_sweep.dashboard: --port={port} is no port; give one from 1024 to 65535")


def test_what_is_no_store_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").mkdir()
    for name, said in (
        ("nowhere", "does not exist; give the directory of a store, as a sweep prints it"),
        ("file", "is a file; give the directory of a store, as a sweep prints it"),
        ("home", "holds letters and no trials; give the directory of a store"),
    ):
        line = refused([str(tmp_path / name), "--port", "0"], monkeypatch, capsys)
        assert line == f"laser_sweep.dashboard: store {tmp_path / name} {said}"


def test_an_empty_store_waits_for_a_sweep_on_every_page(tmp_path: Path) -> None:
    check_store(str(tmp_path))
    for name in PAGES:
        said = page(tmp_path, f"/{name}")
        assert "Nothing here yet" in said
        assert f"python -m laser_sweep -m store.path={tmp_path}" in said


def older(store: ParquetStore) -> None:
    for file in store.trials.iterdir():
        as_older_version(file)


def damaged(store: ParquetStore) -> None:
    (store.trials / f"{'0' * 16}.parquet").write_bytes(b"PAR1 no more")
    (store.predictions / f"{TRIALS[1].key}.parquet").write_bytes(b"")


def foreign(store: ParquetStore) -> None:
    pq.write_table(pa.table({"trial_key": [TRIALS[0].key], "accuracy": ["good"]}), store.trials / "notes.parquet")
    (store.trials / "notes.txt").write_text("x")
    (store.root / "readme.md").write_text("x")


def half_written(store: ParquetStore) -> None:
    (store.trials / ".0123456789abcdef.parquet.tmp").write_bytes(b"PAR1")
    (store.trials / f"{TRIALS[1].key}.parquet.tmp").write_bytes(b"PAR1")


@pytest.mark.parametrize("change", [older, damaged, foreign, half_written])
def test_a_store_with_files_that_are_not_todays_opens_on_every_page(
    tmp_path: Path, change: Callable[[ParquetStore], None]
) -> None:
    store = written(tmp_path, RESULTS)
    change(store)
    check_store(str(tmp_path))
    first, second = TRIALS[1].key, TRIALS[2].key
    for name in PAGES:
        which = {"trial": f"?trial={first}", "compare": f"?trial={first}&trial={second}"}.get(name, "")
        said = page(tmp_path, f"/{name}{which}")
        assert "could not be made" not in said
        assert "4 trials" in said  # of 4


def test_files_of_a_version_to_come_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = written(tmp_path, RESULTS)
    file = store.trials / f"{TRIALS[3].key}.parquet"
    replace(file, pq.read_table(file, partitioning=None).replace_schema_metadata({"laser_sweep_schema": "99"}))
    assert "3 of 3 trials" in page(tmp_path, "/trials")
    assert f"{file} was not written by this version of laser_sweep and is left out" in caplog.text


def test_a_trial_whose_predictions_are_gone_still_has_a_page(tmp_path: Path) -> None:
    store = written(tmp_path, RESULTS)
    for one in TRIALS[:2]:
        (store.predictions / f"{one.key}.parquet").unlink()
    said = page(tmp_path, f"/trial?trial={TRIALS[1].key}")
    assert "No predictions are stored for this trial." in said
    assert "could not be made" not in page(tmp_path, f"/trial?trial={TRIALS[2].key}")
    said = page(tmp_path, f"/compare?trial={TRIALS[1].key}&trial={TRIALS[2].key}")
    assert "could not be made" not in said


def test_a_key_that_is_unknown_or_ambiguous_is_answered_on_the_page(tmp_path: Path) -> None:
    many = [trial(("fc_in", layer, 0.5)) for layer in range(40)]
    written(tmp_path, [failed(one) for one in many])
    keys = [one.key for one in many]
    shared = next(digit for digit in "0123456789abcdef" if sum(key.startswith(digit) for key in keys) > 1)
    assert f"{shared} begins the keys of" in page(tmp_path, f"/trial?trial={shared}")
    assert "no trial of this store has a key that begins with xyz" in page(tmp_path, "/trial?trial=xyz")
    assert "a comparison takes two or more" in page(tmp_path, f"/compare?trial={keys[0]}")
