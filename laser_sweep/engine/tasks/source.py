"""Reads the rows of a data set from a local file or from the hub."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from laser_sweep.engine import hub
from laser_sweep.engine.tasks.example import BadRow
from laser_sweep.engine.tasks.spec import DatasetSpec, HubSource
from laser_sweep.errors import RequestError, listing

Row: TypeAlias = Mapping[str, Any]
_T = TypeVar("_T")

_ENCODING = "utf-8-sig"  # with or without the mark that spreadsheets write at the start


class Sized(Protocol):
    """Rows that can be counted."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Row]: ...


class BadRowError(ValueError):
    """A row cannot become an example; the message says why."""


def read_rows(spec: DatasetSpec, columns: Sequence[str]) -> Iterable[Row]:
    """The rows of a data set in order. Raises RequestError where there is none, or where it lacks one of `columns`."""
    return itertools.chain.from_iterable(read_parts(spec, columns))


def read_parts(spec: DatasetSpec, columns: Sequence[str]) -> list[Sized]:
    """The rows of a data set, apart for each entry of `hub.files`; a local file is one part. Raises as `read_rows`."""
    if spec.path is not None:
        file = hub.local_path(spec.path)
        if file is None or not file.is_file():
            raise RequestError(
                f"dataset.path={spec.path} is not a file; "
                f"give a {listing(_READERS)} file with columns {listing(columns)}"
            )
        return [_load([file], f"dataset.path={spec.path}", columns)]
    if spec.url is not None:
        return [_load([_downloaded(spec.url)], f"dataset.url={spec.url}", columns)]
    if spec.hub is not None:
        return [_load(files, f"dataset={spec.name}", columns) for files in _hub_files(spec.hub)]
    raise RequestError(f"dataset={spec.name} needs dataset.path=<file> with columns {listing(columns)}")


def parse(rows: Iterable[Row], make: Callable[[int, Row], Iterable[_T]]) -> Iterator[_T | BadRow]:
    """What `make` makes of every row and its number, and a BadRow for each of which it cannot make anything."""
    for number, row in enumerate(rows):
        try:
            yield from list(make(number, row))
        except BadRowError as error:
            yield BadRow(number, str(error))


def _downloaded(url: str) -> Path:
    """The file behind a URL, in the cache of `datasets`."""
    import datasets

    datasets.disable_progress_bars()
    try:
        file = Path(str(datasets.DownloadManager().download(url)))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(
            f"dataset.url={url} could not be fetched: {reason}; give a copy with dataset.path=<file>"
        ) from None
    named = file.with_name(file.name + Path(url).suffix)  # the cache drops the suffix, which says how to read it
    if not named.exists():
        named.symlink_to(file)
    return named


def _hub_files(source: HubSource) -> list[list[Path]]:
    """The files of each pattern."""
    located = hub.locate(
        source.repo, override="dataset.hub.repo", revision=source.revision, patterns=source.files, kind="dataset"
    )
    files = [sorted(located.directory.glob(pattern)) for pattern in source.files]
    for pattern, found in zip(source.files, files, strict=True):
        if not found:
            raise RequestError(f"dataset.hub.repo={source.repo} has no {pattern} at revision {source.revision}")
    return files


def _load(files: Sequence[Path], origin: str, columns: Sequence[str]) -> Sized:
    suffix = files[0].suffix
    if suffix not in _READERS:
        raise RequestError(f"{origin} ends in {suffix or 'nothing'}; read are {listing(_READERS)}")
    if all(file.stat().st_size == 0 for file in files):
        raise RequestError(f"{origin} has no rows")
    try:
        rows, names = _READERS[suffix](files)
    except (ValueError, RecursionError, OSError, csv.Error) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise RequestError(f"{origin} cannot be read as {suffix}: {reason}") from None
    if len(rows) == 0:
        raise RequestError(f"{origin} has no rows")
    missing = [column for column in columns if column not in names]
    if missing:
        raise RequestError(
            f"{origin} lacks the column {listing(missing)}; it has {listing(names)}, "
            f"and the task reads {listing(columns)}"
        )
    return rows


def text_of(row: Row, column: str) -> str:
    """What stands in a column, as text. Raises BadRowError where nothing stands there."""
    if row.get(column) is None or not str(row[column]).strip():
        raise BadRowError(f"there is no {column}")
    return str(row[column])


def number_of(row: Row, column: str) -> float:
    """What stands in a column, as a number. Raises BadRowError where it is none."""
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise BadRowError(f"{column} {row[column]!r} is not a number") from None


def one_of(row: Row, column: str, values: Mapping[str, _T]) -> _T:
    """What the text of a column stands for. Raises BadRowError where it is none of `values`."""
    text = text_of(row, column)
    if text not in values:
        raise BadRowError(f"{column} {text!r} is none of {listing(values)}")
    return values[text]


def nested(row: Row, column: str, kind: type[_T]) -> _T:
    """The list or object in a column; in files that know only text (CSV) it is JSON. Raises BadRowError."""
    value = row.get(column)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, kind):
        raise BadRowError(f"{column} is not {'a list' if kind is list else 'an object'}, but {row.get(column)!r:.80}")
    return value


def texts_of(row: Row, column: str) -> list[str]:
    """The texts of a list in a column. Raises BadRowError where it is no list or lacks one of them."""
    values = nested(row, column, list)
    if None in values:
        raise BadRowError(f"{column} has nothing at place {values.index(None)}")
    return [str(value) for value in values]


def _read_parquet(files: Sequence[Path]) -> tuple[Sized, Sequence[str]]:
    import datasets
    import pandas as pd
    from datasets.exceptions import DatasetGenerationError

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        rows = datasets.load_dataset("parquet", data_files=[str(file) for file in files], split="train")
    except DatasetGenerationError as error:
        frame = pd.concat([pd.read_parquet(file) for file in files])
        if frame.empty:  # which datasets cannot read
            return [], list(frame.columns)
        raise ValueError(str(error.__cause__ or error)) from None
    return rows, rows.column_names


# Texts are read with the standard library: readers of tables guess types, and make dates, numbers and missing values of
# answers that look like them.


def _read_lines(files: Sequence[Path]) -> tuple[Sized, Sequence[str]]:
    # Not splitlines(): what it takes for the end of a line may stand inside a JSON text.
    lines = [line for file in files for line in file.read_text(encoding=_ENCODING).split("\n")]
    return _objects([json.loads(line) for line in lines if line.strip()])


def _read_json(files: Sequence[Path]) -> tuple[Sized, Sequence[str]]:
    rows: list[Any] = []
    for file in files:
        values = json.loads(file.read_text(encoding=_ENCODING))
        if not isinstance(values, list):
            raise ValueError("it is not a list of objects")
        rows += values
    return _objects(rows)


def _objects(values: list[Any]) -> tuple[Sized, Sequence[str]]:
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise ValueError(f"row {number} is not an object")
    return values, list(dict.fromkeys(name for value in values for name in value))


def _read_csv(files: Sequence[Path]) -> tuple[Sized, Sequence[str]]:
    rows: list[Row] = []
    names: dict[str, None] = {}
    for file in files:
        with file.open(encoding=_ENCODING, newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    raise ValueError(f"line {reader.line_num} has more or fewer fields than there are columns")
                rows.append({name: value or None for name, value in row.items()})
            names |= dict.fromkeys(reader.fieldnames or ())
    return rows, list(names)


_READERS = {".parquet": _read_parquet, ".jsonl": _read_lines, ".json": _read_json, ".csv": _read_csv}
