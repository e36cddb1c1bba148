"""Reads a file of counts: how often facts stand in the training data of a model."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from laser_sweep.errors import RequestError, listing

KEYS = ("example_id", "subject", "gold")
COLUMNS = ("frequency", "count")
Rows: TypeAlias = Iterable[tuple[object, object]]
_ENCODING = "utf-8-sig"  # with or without the mark that spreadsheets write at the start


@dataclass(frozen=True, slots=True)
class Counts:
    """`counts` of what column `key` names, from column `column`."""

    key: str
    column: str
    counts: Mapping[str, float]


def read_counts(path: str, keys: Sequence[str] = KEYS) -> Counts:
    """The counts in a CSV, Parquet or JSONL file, by the first of `keys` that is a column of it.

    Where a count is missing there is none. Raises RequestError for a file without these columns, for a count that is no
    number of 0 or more, and where something is counted twice with different results.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise RequestError(f"counts={path} is not a file; give a {listing(_READERS)} file {_layout(keys)}")
    if file.suffix not in _READERS:
        raise RequestError(f"counts={path} ends in {file.suffix or 'nothing'}; read are {listing(_READERS)}")
    try:
        names, select = _READERS[file.suffix](file)
        key, column = (next((name for name in wanted if name in names), None) for wanted in (keys, COLUMNS))
        if key is None or column is None:
            there = f"it has the columns {listing(names)}" if names else "it is empty"
            raise RequestError(f"counts={path} cannot be joined: {there}; give one {_layout(keys)}")
        return Counts(key, column, _checked(path, select(key, column)))
    except (ValueError, OSError, csv.Error, pa.ArrowException) as error:
        raise RequestError(f"counts={path} cannot be read as {file.suffix}: {error}") from None


def _layout(keys: Sequence[str]) -> str:
    return f"with a column {' or '.join(COLUMNS)} and one of {listing(keys)}"


def _checked(path: str, rows: Rows) -> dict[str, float]:
    counts: dict[str, float] = {}
    for number, (key, value) in enumerate(rows):
        if key is None or value is None or value == "":
            continue
        try:
            count = float(str(value))
        except ValueError:
            count = math.nan
        if not 0 <= count < math.inf:  # also where it is no number: nan compares false
            raise RequestError(f"counts={path} row {number}: {value!r} is not a count; give numbers of 0 or more")
        name = str(key).strip()
        if counts.setdefault(name, count) != count:
            raise RequestError(
                f"counts={path} row {number}: {name} is counted twice, {counts[name]:g} and {count:g} times"
            )
    return counts


Select: TypeAlias = Callable[[str, str], Rows]
"""The values of two columns."""


def _read_csv(file: Path) -> tuple[Sequence[str], Select]:
    with file.open(encoding=_ENCODING, newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        names, rows = list(reader.fieldnames or ()), list(reader)
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a line has more or fewer fields than there are columns")
    return names, lambda key, column: ((row[key], row[column]) for row in rows)


def _read_lines(file: Path) -> tuple[Sequence[str], Select]:
    # Not splitlines(): what it takes for the end of a line may stand inside a JSON text.
    rows: list[Any] = [json.loads(line) for line in file.read_text(encoding=_ENCODING).split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is not an object")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, lambda key, column: ((row.get(key), row.get(column)) for row in rows)


def _read_parquet(file: Path) -> tuple[Sequence[str], Select]:
    def select(key: str, column: str) -> Rows:
        table = pq.read_table(file, columns=[key, column], partitioning=None)
        return zip(table[key].to_pylist(), table[column].to_pylist(), strict=True)

    return pq.read_schema(file).names, select


_READERS = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_lines}
