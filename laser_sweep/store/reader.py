"""Reads a store with DuckDB: each trial once, whatever is being written or compacted meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pandas as pd

from laser_sweep.errors import RequestError
from laser_sweep.store.schema import PREDICTIONS, TRIALS
from laser_sweep.store.store import ParquetStore

_SCHEMAS = {"trials": TRIALS, "predictions": PREDICTIONS}


def read_trials(root: str | Path) -> pd.DataFrame:
    """One row for each trial of a store, best val accuracy first.

    Raises RequestError where there is no store.
    """
    return _read(root, "trials", "order by split desc, accuracy desc nulls last, log_loss, trial_key")


def read_predictions(root: str | Path, trial_key: str) -> pd.DataFrame:
    """One row for each example of a trial, in the order of the data set; empty where none are stored."""
    return _read(root, "predictions", "order by file_row_number", "trial_key = ?", [trial_key])


def _read(
    root: str | Path, table: str, order: str, where: str = "true", parameters: Sequence[str] = ()
) -> pd.DataFrame:
    store = ParquetStore(root)

    def read(files: Sequence[Path]) -> pd.DataFrame:
        names = [str(file) for file in store.readable(files)]
        if not names:
            raise RequestError(
                f"store.path={root} holds no {table}; give the directory of a store, as a sweep prints it"
            )
        # A trial may stand in several files: in one of its own, which counts, and in merged ones, of which the first.
        # An empty table with today's columns comes before them: those that an older version did not write are null.
        query = f"""
            select * exclude (filename, file_row_number)
            from (
                select * from columns_of_today union all by name
                select * from read_parquet(?, union_by_name=true, filename=true, file_row_number=true)
            )
            where {where}
            qualify list_position(?, filename) = min(list_position(?, filename)) over (partition by trial_key)
            {order}
        """
        with duckdb.connect() as connection:
            connection.register("columns_of_today", _SCHEMAS[table].empty_table())
            try:
                found = connection.sql(query, params=[names, *parameters, names, names])
                frame: pd.DataFrame = found.to_arrow_table().to_pandas()
            except duckdb.Error:
                store.set_aside_damaged(files)  # raises FileNotFoundError where it found any, so that we start again
                raise
        return frame

    return store.reading(table, read)
