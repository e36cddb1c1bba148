"""Reads a store with DuckDB: each trial once, whatever is being written or compacted meanwhile."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd

from laser_sweep.errors import RequestError
from laser_sweep.store.store import COMPACTED, ParquetStore


def read_trials(root: str | Path) -> pd.DataFrame:
    """One row for each trial of a store, best val accuracy first.

    Raises RequestError where there is no store.
    """
    return _read(root, "trials", "order by split desc, accuracy desc nulls last, log_loss, trial_key")


def read_predictions(root: str | Path, trial_key: str) -> pd.DataFrame:
    """One row for each example of a trial, in the order of the data set; empty where none are stored."""
    return _read(root, "predictions", "", where="trial_key = ?", parameters=[trial_key])


def _read(
    root: str | Path, table: str, order: str, *, where: str = "true", parameters: list[str] | None = None
) -> pd.DataFrame:
    files = ParquetStore(root).readable_files(table)
    if not files:
        raise RequestError(f"store.path={root} holds no {table}; give the directory of a store, as printed by a sweep")
    # While files are being compacted, a trial may stand in two of them. A file of its own is the newer one.
    query = f"""
        select * exclude (filename, file_row_number)
        from read_parquet(?, union_by_name=true, filename=true, file_row_number=true)
        where {where}
        qualify filename = first_value(filename) over (
            partition by trial_key order by starts_with(parse_filename(filename), '{COMPACTED}'), filename
        )
        {order}
    """
    with duckdb.connect() as connection:
        return connection.execute(query, [[str(file) for file in files], *(parameters or [])]).df()
