"""Files of counts, good and bad."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laser_sweep.analysis.counts import read_counts
from laser_sweep.errors import RequestError


def written(directory: Path, name: str, text: str | bytes) -> str:
    file = directory / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


def test_names_that_look_like_something_else_are_kept_as_they_are(tmp_path: Path) -> None:
    """A reader of tables would make missing values, numbers and dates of them."""
    names = ["NA", "None", "007", "1.50", "2020-01-01", "True", "Şırnak"]
    csv = read_counts(written(tmp_path, "a.csv", "\ufeffgold,count\n" + "".join(f"{name},1\n" for name in names)))
    lines = "\n".join(json.dumps({"gold": name, "count": 1}, ensure_ascii=False) for name in names)
    assert list(csv.counts) == names == list(read_counts(written(tmp_path, "a.jsonl", lines)).counts)


def test_numbers_in_columns_of_names_are_names(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", '{"example_id": 12, "frequency": 3}\n\n{"example_id": 7, "frequency": 1e9}\n')
    assert dict(read_counts(file).counts) == {"12": 3.0, "7": 1e9}


def test_a_missing_count_is_none_and_the_same_count_twice_is_one(tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "gold,count\nRome,\nOslo,2\nOslo,2.0\n")
    assert dict(read_counts(file).counts) == {"Oslo": 2.0}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "gold,count\nRome,many\n", r"row 0: 'many' is not a count; give numbers of 0 or more"),
        ("a.csv", "gold,count\nRome,1\nOslo,-2\n", r"row 1: '-2' is not a count"),
        ("a.csv", "gold,count\nRome,nan\n", r"'nan' is not a count"),
        ("a.jsonl", '{"gold": "Rome", "count": Infinity}', r"inf is not a count"),
        ("a.jsonl", '{"gold": "Rome", "count": [1]}', r"\[1\] is not a count"),
        ("a.csv", "gold,count\nRome,1\nRome,2\n", r"row 1: Rome is counted twice, 1 and 2 times"),
        (
            "a.csv",
            "city,count\nRome,1\n",
            r"it has the columns city, count; give one with a column frequency or count ",
        ),
        ("a.csv", "gold,howmany\nRome,1\n", r"it has the columns gold, howmany; give one with a column frequency or "),
        ("a.csv", "", r"it is empty; give one with a column frequency or count and one of example_id, subject, gold$"),
        ("a.jsonl", "\n", r"it is empty; give one with a column frequency or count "),
        ("a.csv", "gold,count\nRome,1,2\n", r"cannot be read as \.csv: a line has more or fewer fields"),
        ("a.csv", b"gold,count\n\xff\xfe,1\n", r"cannot be read as \.csv: 'utf-8' codec"),
        ("a.jsonl", '{"gold": "Rome"', r"cannot be read as \.jsonl: "),
        ("a.jsonl", "[1, 2]", r"cannot be read as \.jsonl: a line is not an object"),
        ("a.parquet", "no parquet", r"cannot be read as \.parquet: "),
        ("a.parquet", "", r"cannot be read as \.parquet: "),
        ("a.xlsx", "", r"ends in \.xlsx; read are \.csv, \.parquet, \.jsonl$"),
        ("counts", "", r"ends in nothing; read are \.csv"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(name: str, text: str | bytes, said: str, tmp_path: Path) -> None:
    file = written(tmp_path, name, text)
    with pytest.raises(RequestError, match=said) as refused:
        read_counts(file)
    assert str(refused.value).startswith(f"counts={file} ")
    assert "\n" not in str(refused.value)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(RequestError, match=rf"counts={path} is not a file; give a \.csv, \.parquet, \.jsonl file"):
            read_counts(str(path))
