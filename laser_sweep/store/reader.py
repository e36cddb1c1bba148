"""Reads a store with DuckDB: each trial once, whatever is being written or compacted meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

from laser_sweep.errors import RequestError, listing
from laser_sweep.store.schema import PREDICTIONS, SPECTRA, TRIALS
from laser_sweep.store.store import ParquetStore

T = TypeVar("T")
_SCHEMAS = {"trials": TRIALS, "predictions": PREDICTIONS, "spectra": SPECTRA}
_KEYS = {"trials": "trial_key", "predictions": "trial_key", "spectra": "probe_key"}
_SHOWN = 4
_BEST_FIRST = (
    "order by split desc, accuracy desc nulls last, mean_return desc nulls last, log_loss, action_error, trial_key"
)


def read_trials(root: str | Path) -> pd.DataFrame:
    """One row for each trial of a store, best val accuracy first.

    Raises RequestError where there is no store.
    """
    return _read(root, "trials", _BEST_FIRST, take=_frame)


def find_trial(root: str | Path, key: str) -> pd.Series[Any]:
    """The row of `read_trials` whose trial key is `key` or begins with it.

    Raises RequestError where there is no such trial, where there are several, and where there is no store.
    """
    asked = key.strip().lower()
    if not asked:
        raise RequestError("a trial is named by its key or the first characters of it, and none were given")
    rows = _read(root, "trials", "order by trial_key", "starts_with(trial_key, ?)", [asked], take=_frame)
    if rows.empty:
        raise RequestError(
            f"trial {key} is not in store.path={root}; `python -m laser_sweep.store show {root}` lists those that are"
        )
    if len(rows) > 1:
        more = len(rows) - _SHOWN
        raise RequestError(
            f"trial {key} could be {listing(rows['trial_key'][:_SHOWN])}{f' and {more:,} more' if more > 0 else ''}; "
            f"give more of its key"
        )
    return rows.iloc[0]


def read_predictions(root: str | Path, trial_key: str) -> pd.DataFrame:
    """One row for each example of a trial, in the order of the data set; empty where none are stored."""
    return _read(root, "predictions", "order by file_row_number", "trial_key = ?", [trial_key], take=_frame)


def read_spectra(root: str | Path) -> pd.DataFrame:
    """One row for each matrix of each probe, the last probe first; empty where no matrix was probed.

    Raises RequestError where there is no store.
    """
    store = ParquetStore(root)
    if not store.root.is_dir():
        raise RequestError(f"store.path={root} is not a store; give a directory that a sweep wrote")
    if not store.reading("spectra", store.readable):
        empty: pd.DataFrame = SPECTRA.empty_table().to_pandas()
        return empty
    return _read(root, "spectra", "order by finished_at desc, probe_key, layer, tau", take=_frame)


def stream(root: str | Path, table: Literal["trials", "predictions"], write: Callable[[pa.RecordBatchReader], T]) -> T:
    """What `write` makes of all rows of a table, which it gets in batches, trials as they were finished.

    It is called again, from the first row on, where another process merges files meanwhile. Raises RequestError where
    there is no store.
    """
    order = "finished_at, trial_key" if table == "trials" else "trial_key, file_row_number"
    return _read(root, table, f"order by {order}", take=lambda found: write(pa.RecordBatchReader.from_stream(found)))


def _frame(found: duckdb.DuckDBPyRelation) -> pd.DataFrame:
    frame: pd.DataFrame = found.to_arrow_table().to_pandas()
    return frame


def _read(
    root: str | Path,
    table: str,
    order: str,
    where: str = "true",
    parameters: Sequence[str] = (),
    *,
    take: Callable[[duckdb.DuckDBPyRelation], T],
) -> T:
    store = ParquetStore(root)

    def read(files: Sequence[Path]) -> T:
        names = [str(file) for file in store.readable(files)]
        if not names:
            raise RequestError(
                f"store.path={root} holds no {table}{_why(store)}; give the directory of a store, as a sweep prints it"
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
            qualify list_position(?, filename) = min(list_position(?, filename)) over (partition by {_KEYS[table]})
            {order}
        """
        with duckdb.connect() as connection:
            connection.register("columns_of_today", _SCHEMAS[table].empty_table())
            try:
                return take(connection.sql(query, params=[names, *parameters, names, names]))
            except (duckdb.Error, pa.ArrowException):
                store.set_aside_damaged(files)  # raises FileNotFoundError where it found any, so that we start again
                raise

    return store.reading(table, read)


def _why(store: ParquetStore) -> str:
    """Why there are none, where the directory shows it."""
    if store.root.is_dir():
        return ""
    return ": it is a file" if store.root.exists() else ": there is no such directory"
