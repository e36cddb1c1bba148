"""The Parquet store: one file for each trial, written whole or not at all, under the trial's key."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from laser_sweep.errors import RequestError
from laser_sweep.store.rows import from_row, to_prediction_columns, to_row
from laser_sweep.store.schema import PREDICTIONS, SCHEMA_VERSION, TRIALS
from laser_sweep.trial import Trial, TrialResult

COMPACTED = "compacted-"
_log = logging.getLogger(__name__)


class ParquetStore:
    """Results under `root`: `trials/<key>.parquet` (one row) and `predictions/<key>.parquet` (a row for each example).

    A file is written under a hidden temporary name, fsynced and renamed, so that a reader never sees half a file and a
    crash leaves nothing or all of it. Predictions are written first: a row in `trials` has its predictions.
    Several processes may write to one store; for one key the last writer wins, with the same content.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.trials = self.root / "trials"
        self.predictions = self.root / "predictions"

    def check_writable(self) -> None:
        """Raises RequestError where results could not be written. Leaves nothing behind."""
        existing = next(path for path in (self.trials, *self.trials.parents) if path.exists())
        if not existing.is_dir():
            raise RequestError(f"store.path={self.root} cannot be a directory: {existing} is a file")
        probe = existing / f".write-test-{uuid.uuid4().hex}"
        try:
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RequestError(
                f"store.path={self.root} cannot be written ({error.strerror}); give a writable directory"
            ) from None

    def write(self, result: TrialResult, sweep: str, config_json: str) -> None:
        """Stores a result: when this returns, it survives a crash of this machine."""
        if result.predictions is not None:
            table = pa.table(to_prediction_columns(result), schema=PREDICTIONS)
            _write_atomically(table, self.predictions / f"{result.trial.key}.parquet")
        table = pa.Table.from_pylist([to_row(result, sweep, config_json)], schema=TRIALS)
        _write_atomically(table, self.trials / f"{result.trial.key}.parquet")

    def find(self, trials: Iterable[Trial]) -> dict[str, TrialResult]:
        """The stored results of these trials by key; trials that are not stored are left out."""
        wanted = {trial.key: trial for trial in trials}
        found: dict[str, TrialResult] = {}
        for file in self._files(self.trials):
            # A file named by a key that is not wanted need not be opened.
            if file.stem in wanted or file.name.startswith(COMPACTED):
                for row in self._rows(file):
                    if row["trial_key"] in wanted:
                        found.setdefault(row["trial_key"], from_row(row, wanted[row["trial_key"]]))
        return found

    def correct(self, key: str) -> npt.NDArray[np.bool_] | None:
        """Which examples a stored trial got right (examples,), None where its predictions are not stored."""
        single = self.predictions / f"{key}.parquet"
        files = (
            [single] if single.exists() else [f for f in self._files(self.predictions) if f.name.startswith(COMPACTED)]
        )
        for file in files:
            table = pq.read_table(file, columns=["correct"], filters=[("trial_key", "==", key)], partitioning=None)
            if table.num_rows:
                return np.asarray(table["correct"].to_numpy(zero_copy_only=False), dtype=np.bool_)
        return None

    def readable_files(self, table: str) -> list[Path]:
        """The files of `trials` or `predictions` that this version can read; damaged ones are set aside."""
        return [file for file in self._files(self.root / table) if self._readable(file)]

    def compact(self) -> int:
        """Merges the small files of both tables, and says how many trials were merged.

        The merged file appears before the small ones go; a reader that meets both counts each key once (`find`, and the
        views of `laser_sweep.store.reader`).
        """
        self._compact(self.predictions, PREDICTIONS)
        return self._compact(self.trials, TRIALS)

    def _compact(self, directory: Path, schema: pa.Schema) -> int:
        files = [file for file in self._files(directory) if self._readable(file)]
        if len(files) < 2:
            return 0
        small = [file for file in files if not file.name.startswith(COMPACTED)]
        # Rewritten single files come first, so that they win over what an older compaction holds for the same key.
        tables = [
            pq.read_table(file, schema=schema, partitioning=None) for file in [*small, *(set(files) - set(small))]
        ]
        keys: set[str] = set()
        kept = []
        for table in tables:
            fresh = set(table["trial_key"].to_pylist()) - keys
            mask = pa.array([key in fresh for key in table["trial_key"].to_pylist()], type=pa.bool_())
            kept.append(table.filter(mask))
            keys |= fresh
        _write_atomically(pa.concat_tables(kept), directory / f"{COMPACTED}{uuid.uuid4().hex[:16]}.parquet")
        for file in files:
            file.unlink(missing_ok=True)
        return len(keys)

    def _files(self, directory: Path) -> Sequence[Path]:
        return sorted(file for file in directory.glob("*.parquet") if not file.name.startswith("."))

    def _readable(self, file: Path) -> bool:
        try:
            version = int((pq.read_schema(file).metadata or {}).get(b"laser_sweep_schema", b"0"))
        except FileNotFoundError:
            return False  # compacted away by another process
        except (pa.ArrowException, OSError) as error:
            self._set_aside(file, str(error).splitlines()[0])
            return False
        if not 0 < version <= SCHEMA_VERSION:
            _log.warning("%s was not written by this version of laser_sweep and is left out", file)
            return False
        return True

    def _rows(self, file: Path) -> list[dict[str, Any]]:
        if not self._readable(file):
            return []
        try:
            rows: list[dict[str, Any]] = pq.read_table(file, partitioning=None).to_pylist()
        except FileNotFoundError:
            return []
        except (pa.ArrowException, OSError) as error:
            self._set_aside(file, str(error).splitlines()[0])
            return []
        return rows

    def _set_aside(self, file: Path, reason: str) -> None:
        """Renames a damaged file so that no reader of the directory trips over it; its trial runs again."""
        target = file.with_suffix(".parquet.damaged")
        _log.warning("%s cannot be read (%s); set aside as %s", file, reason, target.name)
        try:
            file.rename(target)
        except OSError:
            return  # a read-only store: it is only left out


def _write_atomically(table: pa.Table, target: Path) -> None:
    with _replacing(target) as temporary:
        pq.write_table(table, temporary, compression="zstd")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A hidden name to write to, which becomes `target` at the end, durably, or goes away when the body raises."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        temporary.unlink(missing_ok=True)
