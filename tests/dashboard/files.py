"""Files of a store as other versions leave them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def as_older_version(file: Path) -> None:
    """A file as version 2 wrote it: without some columns, edits with fewer fields."""
    table = pq.read_table(file, partitioning=None)
    edits = [
        [{name: edit[name] for name in ("tau", "layer", "rho", "method", "rank")} for edit in row]
        for row in table["edits"].to_pylist()
    ]
    kind = pa.list_(
        pa.struct(
            [
                ("tau", pa.string()),
                ("layer", pa.int32()),
                ("rho", pa.float64()),
                ("method", pa.string()),
                ("rank", pa.int32()),
            ]
        )
    )
    table = table.drop_columns([name for name in ("limit", "parameters") if name in table.column_names])
    table = table.set_column(table.schema.get_field_index("edits"), "edits", pa.array(edits, kind))
    replace(file, table.replace_schema_metadata({"laser_sweep_schema": "2"}))


def replace(file: Path, table: pa.Table) -> None:
    pq.write_table(table, file.with_suffix(".other"))
    file.with_suffix(".other").replace(file)
