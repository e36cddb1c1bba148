"""A live view of a store: read once, then only the files that are new or have changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from laser_sweep.analysis.comparisons import ComparisonView, comparisons
from laser_sweep.dashboard.filters import Index
from laser_sweep.errors import RequestError, listing
from laser_sweep.store.schema import PREDICTIONS, SPECTRA, TRIALS
from laser_sweep.store.store import COMPACTED, ParquetStore

SETTLED_SECONDS = 2.0
"""A directory that changed less than this ago is looked at again: file systems tell times apart only so finely."""

_NAMED = 5
_KEPT = 32  # trials whose predictions stay in memory

Signature = tuple[int, int, int]
"""Inode, time of change and size of a file: a file written under the same name has another one."""


@dataclass(frozen=True)
class Snapshot:
    """All trials of a store at one moment, in the order and with the columns of `reader.read_trials`."""

    version: int
    trials: pd.DataFrame

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(self.trials["trial_key"])

    @cached_property
    def index(self) -> Index:
        """For filters."""
        return Index(self.trials)

    @cached_property
    def comparisons(self) -> list[ComparisonView]:
        """All that can be compared."""
        return comparisons(self.trials)

    def comparison_of(self, key: str) -> ComparisonView:
        """The comparison that a trial belongs to."""
        return self.comparisons[self._homes[key]]

    @cached_property
    def _homes(self) -> dict[str, int]:
        return {key: place for place, one in enumerate(self.comparisons) for key in one.trials["trial_key"]}

    def resolve(self, prefix: str) -> str:
        """The key of the one trial that begins with `prefix`. Raises RequestError for none and for several."""
        wanted = prefix.strip().lower()
        if wanted in self.keys:
            return wanted
        if not wanted:
            raise RequestError("no trial is named; give the first characters of a trial key")
        found = sorted(key for key in self.keys if key.startswith(wanted))
        if len(found) == 1:
            return found[0]
        if not found:
            raise RequestError(f"no trial of this store has a key that begins with {prefix.strip()[:40]}")
        more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
        raise RequestError(
            f"{prefix.strip()} begins the keys of {len(found):,} trials: {listing(found[:_NAMED])}{more}"
        )

    def trial(self, key: str) -> pd.Series:
        """The row of one trial. Raises KeyError for a key that is not there."""
        return self.trials.iloc[self._places[key]]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {key: place for place, key in enumerate(self.trials["trial_key"])}


class LiveStore:
    """Follows a store while others write to it and merge its files. Safe to call from several threads."""

    def __init__(self, root: str | Path) -> None:
        self.store = ParquetStore(root)
        self._trials = LiveTable(self.store, "trials", TRIALS)
        self._spectra = LiveTable(self.store, "spectra", SPECTRA)
        self._lock = threading.Lock()
        self._snapshot = Snapshot(0, in_order(TRIALS.empty_table()))
        self._predictions = lru_cache(maxsize=_KEPT)(self._read_predictions)

    @property
    def root(self) -> Path:
        return self.store.root

    def snapshot(self) -> Snapshot:
        """What is stored now; the same object as before where nothing has changed."""
        with self._lock:
            trials_changed, spectra_changed = self._trials.refresh(), self._spectra.refresh()
            if trials_changed or spectra_changed:
                trials = in_order(self._trials.table(distinct="trial_key")) if trials_changed else self._snapshot.trials
                self._snapshot = Snapshot(self._snapshot.version + 1, trials)
            return self._snapshot

    def predictions(self, key: str) -> pd.DataFrame:
        """A row for each example of a trial, in the order of the data set; empty where none are stored.

        Raises KeyError for a key that no stored trial has: nothing else becomes the name of a file.
        """
        finished_at = self._snapshot.trial(key)["finished_at"]
        return self._predictions(key, finished_at)

    def spectra(self) -> pd.DataFrame:
        """A row for each matrix that was probed."""
        with self._lock:
            frame: pd.DataFrame = self._spectra.table().to_pandas()
        return frame

    def _read_predictions(self, key: str, finished_at: pd.Timestamp) -> pd.DataFrame:
        """`finished_at` makes a trial that was run again one that is read again."""

        def read(files: Sequence[Path]) -> pa.Table:
            for file in files:
                if file.stem == key or file.name.startswith(COMPACTED):
                    table = _read_table(self.store, file, PREDICTIONS, only=key)
                    if table is not None and table.num_rows:
                        return table
            return PREDICTIONS.empty_table()

        frame: pd.DataFrame = self.store.reading("predictions", read).to_pandas()
        return frame


class LiveTable:
    """The rows of one table of a store, file by file."""

    def __init__(self, store: ParquetStore, name: str, schema: pa.Schema) -> None:
        self._store = store
        self._name = name
        self._schema = schema
        self._files: dict[Path, tuple[Signature, pa.Table | None]] = {}
        self._seen: tuple[int, int] | None = None

    def refresh(self) -> bool:
        """Reads what is new, and says whether anything is."""
        seen = self._fingerprint()
        if seen is not None and seen == self._seen:
            return False
        before = self._contents()
        self._files = self._store.reading(self._name, self._taken)
        self._seen = seen
        return self._contents() != before

    def table(self, distinct: str | None = None) -> pa.Table:
        """All rows; where several have the same value of `distinct`, that of the file that counts."""
        tables = [table for _, table in self._files.values() if table is not None]
        joined = pa.concat_tables(tables) if tables else self._schema.empty_table()
        if distinct is None:
            return joined
        duplicated = joined[distinct].to_pandas().duplicated()
        return joined.filter(pa.array(~duplicated)) if duplicated.any() else joined

    def _contents(self) -> dict[Path, Signature]:
        return {file: signature for file, (signature, table) in self._files.items() if table is not None}

    def _fingerprint(self) -> tuple[int, int] | None:
        """Of the directory; None while it is so new that it may change without showing."""
        try:
            stat = (self._store.root / self._name).stat()
        except OSError:
            return None
        settled = time.time() - stat.st_mtime > SETTLED_SECONDS
        return (stat.st_ino, stat.st_mtime_ns) if settled else None

    def _taken(self, files: Sequence[Path]) -> dict[Path, tuple[Signature, pa.Table | None]]:
        """What is known of unchanged files, and the others read, in the order in which files count.

        Raises FileNotFoundError where one went away: what was in it is in a merged file, which may not be among these.
        """
        taken = {}
        for file in files:
            stat = file.stat()
            signature = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            known = self._files.get(file)
            if known is None or known[0] != signature:
                known = signature, _read_table(self._store, file, self._schema)
            taken[file] = known
        return taken


def _read_table(store: ParquetStore, file: Path, schema: pa.Schema, only: str | None = None) -> pa.Table | None:
    """The rows of a file, or those of trial `only`; None where it is not one of ours, or damaged and set aside."""
    filters = None if only is None else [("trial_key", "==", only)]
    try:
        if filters is None:
            # Opening a file of one row is most of its cost, so that files as we write them are opened once.
            with pq.ParquetFile(file, pre_buffer=False) as opened:
                table = opened.read(use_threads=False)
            if table.schema.metadata == schema.metadata and table.schema.equals(schema):
                return table
        return (
            pq.read_table(file, schema=schema, partitioning=None, filters=filters) if store.readable([file]) else None
        )
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError):
        store.set_aside_damaged([file])  # raises FileNotFoundError where it is damaged
        raise


def in_order(trials: pa.Table) -> pd.DataFrame:
    """Trials as `reader.read_trials` returns them: val first, best score first, then least loss."""
    frame: pd.DataFrame = trials.to_pandas()
    frame = frame.sort_values(
        ["split", "accuracy", "mean_return", "log_loss", "action_error", "trial_key"],
        ascending=[False, False, False, True, True, True],
        na_position="last",
    )
    return frame.reset_index(drop=True)
