"""`python -m laser_sweep.report` as a person types it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laser_sweep.report.__main__ import write
from laser_sweep.store.store import ParquetStore

from ..measured import done, right, trial, written


def command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "laser_sweep.report", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_report_of_outputs_store_stands_beside_it(store: ParquetStore, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "outputs" / "store")
    ended = command(cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("report: outputs/report.html (")
    html = (tmp_path / "outputs" / "report.html").read_text()
    assert html.startswith("<!DOCTYPE html>")
    assert html.rstrip().endswith("</html>")
    assert len(html) < 8e6
    assert sorted(file.name for file in (tmp_path / "outputs").iterdir()) == ["report.html", "store"]


def test_another_file_can_be_named(store: ParquetStore, tmp_path: Path) -> None:
    assert command(store.root, "--to", "new/deep/page.html", cwd=tmp_path).returncode == 0
    assert (tmp_path / "new" / "deep" / "page.html").exists()


def test_markdown_is_printed_and_nothing_is_written(store: ParquetStore, tmp_path: Path) -> None:
    ended = command(store.root, "--markdown", cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.startswith("# LASER sweep")
    assert not list(tmp_path.iterdir())
    assert command(store.root, "--markdown", "--to", "summary.md", cwd=tmp_path).returncode == 0
    assert "## tiny on colours" in (tmp_path / "summary.md").read_text()


def refused(*arguments: object, cwd: Path) -> str:
    ended = command(*arguments, cwd=cwd)
    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith("laser_sweep.report: ")
    return line


def test_a_store_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere" in refused("nowhere", cwd=tmp_path)
    (tmp_path / "file").write_text("x")
    assert "file" in refused("file", cwd=tmp_path)
    assert not list(tmp_path.glob("*.html"))


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store" / "trials").mkdir(parents=True)
    assert "store holds no trials" in refused("store", cwd=tmp_path)


def test_a_target_that_cannot_be_written_is_refused(store: ParquetStore, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("x")
    assert "--to=directory is a directory" in refused(store.root, "--to", "directory", cwd=tmp_path)
    assert "--to=file/page.html cannot be written" in refused(store.root, "--to", "file/page.html", cwd=tmp_path)


def test_a_report_that_cannot_be_made_leaves_the_old_one(store: ParquetStore, tmp_path: Path) -> None:
    shutil.copytree(store.root, tmp_path / "store")
    (tmp_path / "report.html").write_text("the old one")
    for file in (tmp_path / "store" / "trials").iterdir():
        file.unlink()
    refused("store", cwd=tmp_path)
    assert (tmp_path / "report.html").read_text() == "the old one"


def test_a_page_that_cannot_be_written_to_its_end_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("the old one")
    with pytest.raises(UnicodeEncodeError):
        write("x" * 100_000 + "\ud800", target)
    assert target.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [target]


def test_damaged_and_foreign_files_are_left_out(store: ParquetStore, tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(store.root, root)
    (root / "trials" / "0000000000000000.parquet").write_bytes(b"PAR1 torn")
    (root / "spectra" / "0000000000000000.parquet").write_bytes(b"")
    pq.write_table(pa.table({"a": [1]}), root / "trials" / "foreign.parquet")
    ended = command(root, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "14 trials" in (tmp_path / "report.html").read_text()


def test_a_store_without_predictions_or_spectra_has_a_page(store: ParquetStore, tmp_path: Path) -> None:
    root = tmp_path / "store"
    shutil.copytree(store.root, root)
    shutil.rmtree(root / "predictions")
    shutil.rmtree(root / "spectra")
    ended = command(root, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "on test: 70.0 ± 2.3 %" in (tmp_path / "report.html").read_text()


def test_a_store_that_is_written_and_merged_meanwhile_has_a_page(tmp_path: Path) -> None:
    growing = written(tmp_path / "store", [done(trial(), right(50))])
    stop = threading.Event()

    def write() -> None:
        layer = 0
        while not stop.is_set():
            growing.write(done(trial(("fc_in", layer, 0.1)), right(51), right(50)), "sweep", "{}")
            layer += 1
            if layer % 10 == 0:
                growing.compact()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        ended = command(growing.root, cwd=tmp_path)
    finally:
        stop.set()
        writer.join()
    assert ended.returncode == 0, ended.stderr
    assert "tiny on colours" in (tmp_path / "report.html").read_text()
