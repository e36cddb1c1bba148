from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

import laser_sweep
from laser_sweep.engine.tasks.source import read_rows
from laser_sweep.engine.tasks.spec import DatasetSpec, HubSource
from laser_sweep.errors import RequestError

WriteRows = Callable[[str, list[dict[str, Any]]], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def read(path: Path | str | None, *, hub: HubSource | None = None) -> list[dict[str, Any]]:
    spec = DatasetSpec(name="facts", format="prompt_answer", path=None if path is None else str(path), hub=hub)
    return [dict(row) for row in read_rows(spec, ("prompt", "answer"))]


def refused(path: Path | str | None, message: str, *, hub: HubSource | None = None) -> None:
    """Reading raises RequestError with one line that begins with `message`."""
    with pytest.raises(RequestError, match="^" + re.escape(message)) as caught:
        read(path, hub=hub)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "csv"])
def test_rows_come_in_the_order_of_the_file_with_all_their_columns(suffix: str, write_rows: WriteRows) -> None:
    rows = [{"prompt": f"p{i}", "answer": f"a{i}", "extra": f"x{i}"} for i in (2, 0, 1)]
    expected = [{**row, "extra": str(row["extra"])} for row in rows] if suffix == "csv" else rows
    assert read(write_rows(f"facts.{suffix}", rows)) == expected


def test_a_file_that_was_rewritten_is_read_anew(write_rows: WriteRows) -> None:
    for answer in ("old", "new"):
        file = write_rows("facts.csv", [{"prompt": "p", "answer": answer}])
        assert read(file) == [{"prompt": "p", "answer": answer}]


@pytest.mark.parametrize("path", ["/no/such/facts.csv", "./facts.csv", "facts.csv", "~/facts.csv"])
def test_a_file_that_is_not_there_is_reported_with_what_would_be_right(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    refused(
        path,
        f"dataset.path={path} is not a file; give a .parquet, .jsonl, .json, .csv file with columns prompt, answer",
    )


def test_a_directory_in_place_of_a_file_is_reported(tmp_path: Path) -> None:
    refused(tmp_path, f"dataset.path={tmp_path} is not a file")


def test_a_file_of_another_format_is_reported_with_the_formats_that_are_read(tmp_path: Path) -> None:
    for name, suffix in (("facts.txt", ".txt"), ("facts", "nothing"), ("facts.pkl", ".pkl")):
        (tmp_path / name).write_text("prompt,answer\np,a\n")
        refused(
            tmp_path / name,
            f"dataset.path={tmp_path / name} ends in {suffix}; read are .parquet, .jsonl, .json, .csv",
        )


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "csv"])
def test_a_column_that_is_missing_is_reported_beside_those_that_are_there(suffix: str, write_rows: WriteRows) -> None:
    file = write_rows(f"facts.{suffix}", [{"prompt": "p", "gold": "a"}])
    refused(
        file,
        f"dataset.path={file} lacks the column answer; it has prompt, gold, and the task reads prompt, answer",
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("facts.csv", ""),
        ("facts.parquet", ""),
        ("facts.jsonl", ""),
        ("facts.json", ""),
        ("facts.json", "[]"),
        ("facts.csv", "prompt,answer\n"),
    ],
)
def test_a_file_without_rows_is_reported(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    refused(tmp_path / name, f"dataset.path={tmp_path / name} has no rows")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_text_of_any_script_and_with_any_separator_is_read_as_it_stands(suffix: str, tmp_path: Path) -> None:
    rows = [{"prompt": text, "answer": "é"} for text in ('say "no", twice', "日本語", "a\nb", "a\r\nb", "a\tb")]
    file = tmp_path / f"facts.{suffix}"
    with file.open("w", encoding="utf-8", newline="") as stream:
        if suffix == "csv":
            writer = csv.DictWriter(stream, ["prompt", "answer"])
            writer.writeheader()
            writer.writerows(rows)
        elif suffix == "jsonl":
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            json.dump(rows, stream, ensure_ascii=False)
    assert read(file) == rows


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_separator_that_json_allows_inside_a_text_does_not_end_the_line(separator: str, tmp_path: Path) -> None:
    rows = [{"prompt": f"a{separator}b", "answer": "c"}]
    (tmp_path / "facts.jsonl").write_text(json.dumps(rows[0], ensure_ascii=False) + "\n", encoding="utf-8")
    assert read(tmp_path / "facts.jsonl") == rows


@pytest.mark.parametrize(
    ("suffix", "text"), [("csv", "prompt,answer\np,a\n"), ("jsonl", '{"prompt": "p", "answer": "a"}')]
)
def test_a_byte_order_mark_as_excel_writes_it_is_no_part_of_the_text(suffix: str, text: str, tmp_path: Path) -> None:
    (tmp_path / f"facts.{suffix}").write_text(text, encoding="utf-8-sig")
    assert read(tmp_path / f"facts.{suffix}") == [{"prompt": "p", "answer": "a"}]


@pytest.mark.parametrize("line", ["The capital, they say, is,Rome", '"The capital is,Rome'])
def test_a_csv_line_that_does_not_fit_its_columns_is_reported(line: str, tmp_path: Path) -> None:
    file = tmp_path / "facts.csv"
    file.write_text(f"prompt,answer\np,a\n{line}\n")
    refused(file, f"dataset.path={file} cannot be read as .csv: ")


def test_a_file_that_is_not_utf_8_is_reported(tmp_path: Path) -> None:
    for name in ("facts.csv", "facts.jsonl", "facts.json"):
        (tmp_path / name).write_bytes("prompt,answer\ncafé,a\n".encode("latin-1"))
        refused(tmp_path / name, f"dataset.path={tmp_path / name} cannot be read as {Path(name).suffix}: ")


@pytest.mark.parametrize("text", ["[1, 2]", '"words"', '{"prompt": "p", "answer": "a"}', "3"])
def test_json_that_is_no_list_of_objects_is_reported(text: str, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text(text)
    refused(tmp_path / "facts.json", f"dataset.path={tmp_path / 'facts.json'} cannot be read as .json: ")


@pytest.mark.parametrize(("name", "text"), [("facts.parquet", "words"), ("facts.jsonl", "{words"), ("facts.json", "}")])
def test_a_damaged_file_is_reported_with_the_reason(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    refused(tmp_path / name, f"dataset.path={tmp_path / name} cannot be read as {Path(name).suffix}: ")


def test_a_data_set_with_neither_file_nor_repository_is_reported() -> None:
    refused(None, "dataset=facts needs dataset.path=<file> with columns prompt, answer")


def test_a_file_inside_the_package_is_read_under_the_package_scheme(
    write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "package://demo/assets/examples.parquet"
    if not (Path(laser_sweep.__file__).parent / "demo/assets/examples.parquet").exists():
        pytest.skip("the embedded data set is not built")
    assert {"prompt", "answer"} <= read(name)[0].keys()


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of the data set `owner/facts` in a hub cache, below `tmp_path`."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "datasets--owner--facts"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return Path("datasets--owner--facts/snapshots") / COMMIT


def test_the_files_of_a_repository_are_read_pattern_by_pattern(snapshot: Path, write_rows: WriteRows) -> None:
    for name in ("b/1", "b/0", "a/0"):
        write_rows(f"{snapshot}/{name}.parquet", [{"prompt": name, "answer": "x"}])
    source = HubSource(repo="owner/facts", revision="main", files=("b/*.parquet", "a/*.parquet"))
    assert [row["prompt"] for row in read(None, hub=source)] == ["b/0", "b/1", "a/0"]


def test_a_local_file_takes_the_place_of_the_repository(snapshot: Path, write_rows: WriteRows) -> None:
    write_rows(f"{snapshot}/0.parquet", [{"prompt": "hub", "answer": "x"}])
    file = write_rows("facts.parquet", [{"prompt": "file", "answer": "x"}])
    source = HubSource(repo="owner/facts", revision="main", files=("*.parquet",))
    assert [row["prompt"] for row in read(file, hub=source)] == ["file"]
    assert [row["prompt"] for row in read(None, hub=source)] == ["hub"]


def test_a_pattern_that_matches_no_file_of_the_repository_is_reported(snapshot: Path, write_rows: WriteRows) -> None:
    write_rows(f"{snapshot}/a/0.parquet", [{"prompt": "p", "answer": "x"}])
    source = HubSource(repo="owner/facts", revision="main", files=("a/*.parquet", "b/*.parquet"))
    refused(None, "dataset.hub.repo=owner/facts has no b/*.parquet at revision main", hub=source)


def test_a_repository_that_is_not_here_is_reported_with_the_command_that_fetches_it(snapshot: Path) -> None:
    source = HubSource(repo="owner/others", revision="main", files=("*.parquet",))
    refused(None, "dataset.hub.repo=owner/others could not be fetched: the hub cannot be reached", hub=source)
