"""`export`: a table of the store as one file."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from laser_sweep.errors import RequestError
from laser_sweep.store.atomic import replacing
from laser_sweep.store.commands.screen import plain
from laser_sweep.store.reader import stream
from laser_sweep.store.schema import PREDICTIONS, TRIALS

Format: TypeAlias = Literal["csv", "parquet", "json"]
FORMATS: tuple[Format, ...] = ("csv", "parquet", "json")
Table: TypeAlias = Literal["trials", "predictions"]


def export(store: str, form: Format, table: Table, target: str | None) -> None:
    """Writes a table to a file, which appears whole or not at all, or to standard output.

    Raises RequestError for a target that cannot be written, and for Parquet on standard output.
    """
    if target is None:
        if form == "parquet":
            raise RequestError("--format=parquet goes to a file: name it with --to=FILE")
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "table"
            stream(store, table, lambda batches: _WRITERS[form](batches, table, file))
            with file.open("rb") as written:
                shutil.copyfileobj(written, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.is_dir():
        raise RequestError(f"--to={target} is a directory; give the name of a file")
    try:
        with replacing(path) as file:
            stream(store, table, lambda batches: _WRITERS[form](batches, table, file))
    except OSError as error:
        raise RequestError(f"--to={target} cannot be written ({error.strerror or error}); give another file") from None


def _write_parquet(batches: pa.RecordBatchReader, table: Table, file: Path) -> None:
    schema = {"trials": TRIALS, "predictions": PREDICTIONS}[table]
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_batches([batch]).select(schema.names).cast(schema))


def _write_csv(batches: pa.RecordBatchReader, table: Table, file: Path) -> None:
    """Lists are JSON; a field is empty where there is no value."""
    nested = [field.name for field in batches.schema if pa.types.is_nested(field.type)]
    schema = pa.schema([(one.name, pa.string() if one.name in nested else one.type) for one in batches.schema])
    with pa_csv.CSVWriter(file, schema) as writer:
        for batch in batches:
            columns = {name: _texts(batch[name]) if name in nested else batch[name] for name in schema.names}
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _texts(column: pa.Array) -> pa.Array:
    texts = [None if value is None else json.dumps(_as_json(value)) for value in column.to_pylist()]
    return pa.array(texts, pa.string())


def _write_json(batches: pa.RecordBatchReader, table: Table, file: Path) -> None:
    """A list with an object for each row, a line each."""
    with file.open("w", encoding="utf-8") as written:
        separator = "[\n"
        for row in _rows(batches):
            written.write(f"{separator}{json.dumps(row, ensure_ascii=False, allow_nan=False)}")
            separator = ",\n"
        written.write("\n]\n" if separator == ",\n" else "[]\n")


def _rows(batches: pa.RecordBatchReader) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for row in batch.to_pylist():
            yield plain({name: _as_json(value) for name, value in row.items()})


def _as_json(value: Any) -> Any:
    """How often each class was said is an object, not a list of pairs."""
    pairs = isinstance(value, list) and value and all(isinstance(one, tuple) for one in value)
    return dict(value) if pairs else value


_WRITERS: Mapping[Format, Callable[[pa.RecordBatchReader, Table, Path], None]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "json": _write_json,
}
