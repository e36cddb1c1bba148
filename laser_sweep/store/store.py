"""The Parquet store: one file for each trial or probe, written whole or not at all, under its key."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laser_sweep.errors import RequestError
from laser_sweep.probe import Probe, ProbeResult
from laser_sweep.store.atomic import replacing
from laser_sweep.store.claims import Claims
from laser_sweep.store.rows import from_row, to_prediction_columns, to_row
from laser_sweep.store.schema import PREDICTIONS, SCHEMA_VERSION, TRIALS
from laser_sweep.store.spectra import from_table, to_table
from laser_sweep.trial import ExampleScores, Trial, TrialResult

COMPACTED = "compacted-"
_READ_ATTEMPTS = 100
_ABANDONED_SECONDS = 3600.0  # nobody writes a file for so long
_SCORES = ("example_id", "correct", "gold_log_prob", "gold_length", "episode_return", "action_error")
T = TypeVar("T")
_log = logging.getLogger(__name__)


class ParquetStore:
    """Results under `root`: `trials/<key>.parquet` (one row) and `predictions/<key>.parquet` (a row for each example).

    Those of probes are `spectra/<key>.parquet` (a row for each matrix).

    A file is written under a hidden temporary name, fsynced and renamed, so that a reader never sees half a file and a
    crash leaves nothing or all of it. Predictions are written first: a row in `trials` has its predictions.
    Several processes may write to one store and share the work (`claim`); for one key the last writer wins, with the
    same content.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.trials = self.root / "trials"
        self.predictions = self.root / "predictions"
        self.spectra = self.root / "spectra"
        self._claims = Claims(self.root / "running")

    def check_writable(self) -> None:
        """Raises RequestError where results could not be written. Leaves nothing behind."""
        try:
            for directory in (self.trials, self.predictions, self.spectra):
                existing = next(path for path in (directory, *directory.parents) if path.exists())
                if not existing.is_dir():
                    raise RequestError(f"store.path={self.root} cannot be a directory: {existing} is a file")
                probe = existing / f".write-test-{uuid.uuid4().hex}"
                probe.touch()
                probe.unlink()
        except OSError as error:
            raise RequestError(
                f"store.path={self.root} cannot be written ({error.strerror}); give a writable directory"
            ) from None

    def claim(self, trial: Trial, *, again: bool) -> bool:
        """Whether a trial is this process's to run, and not one that another process runs at the moment.

        Unless it is to run `again`, one that another process has stored in the meantime is not.
        """
        key = trial.key
        if not self._claims.take(key):
            return False
        if not again and (self.trials / f"{key}.parquet").exists():
            self._claims.drop(key)
            return False
        return True

    def leave(self) -> None:
        """Leaves what was claimed and not stored to other processes."""
        self._claims.leave()

    def write(self, result: TrialResult, sweep: str, config_json: str) -> None:
        """Stores a result: when this returns, it survives a crash of this machine."""
        if result.predictions is not None:
            table = pa.table(to_prediction_columns(result), schema=PREDICTIONS)
            _write_atomically(table, self.predictions / f"{result.trial.key}.parquet", use_dictionary=False)
        table = pa.Table.from_pylist([to_row(result, sweep, config_json)], schema=TRIALS)
        # One row: to set up a compressor for each of its columns would take longer than all the rest.
        _write_atomically(table, self.trials / f"{result.trial.key}.parquet", use_dictionary=False, compression="none")
        self._claims.drop(result.trial.key)

    def write_probe(self, result: ProbeResult) -> None:
        """Stores the result of a probe as durably. Raises ValueError for one that failed, which is not kept."""
        _write_atomically(to_table(result), self.spectra / f"{result.probe.key}.parquet")

    def find_probe(self, probe: Probe) -> ProbeResult | None:
        """The stored result of a probe, None where there is none, or none that this version understands."""
        file = self.spectra / f"{probe.key}.parquet"
        table = self._table(file) if file.exists() else None
        return None if table is None else from_table(table, probe)

    def find(self, trials: Iterable[Trial]) -> dict[str, TrialResult]:
        """The stored results of these trials by key; trials that are not stored are left out."""
        wanted = {trial.key: trial for trial in trials}

        def read(files: Sequence[Path]) -> dict[str, TrialResult]:
            found: dict[str, TrialResult] = {}
            for file in files:
                # A file named by a key that is not wanted need not be opened.
                if file.stem in wanted or file.name.startswith(COMPACTED):
                    table = self._table(file)
                    for row in [] if table is None else table.to_pylist():
                        if row["trial_key"] in wanted:
                            found.setdefault(row["trial_key"], from_row(row, wanted[row["trial_key"]]))
            return found

        return self.reading("trials", read)

    def scores(self, key: str) -> ExampleScores | None:
        """How a stored trial did on each example, None where its predictions are not stored."""

        def read(files: Sequence[Path]) -> ExampleScores | None:
            for file in files:
                if file.stem == key or file.name.startswith(COMPACTED):
                    wanted = [("trial_key", "==", key)]
                    table = self._table(file, columns=list(_SCORES), filters=wanted, schema=PREDICTIONS)
                    if table is not None and table.num_rows:
                        return _scores(table)
            return None

        return self.reading("predictions", read)

    def reading(self, table: str, read: Callable[[Sequence[Path]], T]) -> T:
        """What `read` makes of the files of `trials` or `predictions`, those that win over others first.

        A file that another process merges into a larger one meanwhile makes `read` raise FileNotFoundError, and it
        starts again with the files that are there then.
        """
        for _ in range(_READ_ATTEMPTS - 1):
            try:
                return read(self._files(self.root / table))
            except FileNotFoundError:
                continue
        return read(self._files(self.root / table))

    def readable(self, files: Iterable[Path]) -> list[Path]:
        """Those files that this version can read; damaged ones are set aside."""
        return [file for file in files if self._readable(file)]

    def set_aside_damaged(self, files: Iterable[Path]) -> None:
        """Reads every file whole; raises FileNotFoundError where one was damaged and set aside, or is gone."""
        damaged = [file for file in files if self._table(file) is None and not file.exists()]
        if damaged:
            raise FileNotFoundError(str(damaged[0]))

    def compact(self) -> int:
        """Merges the small files of both tables, and says how many trials were merged.

        The merged file appears before the small ones go; a reader that meets both counts each key once. A trial that is
        stored again meanwhile keeps its new file. What a killed process has left half-written goes, too. Raises
        RequestError where there is no store.
        """
        if not self.trials.is_dir():
            raise RequestError(f"store.path={self.root} is not a store; give a directory that a sweep wrote")
        for left in self.root.glob("*/.*.tmp"):
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                    left.unlink()
        self.reading("predictions", lambda files: self._merge(files, PREDICTIONS))
        return self.reading("trials", lambda files: self._merge(files, TRIALS))

    def _merge(self, listed: Sequence[Path], schema: pa.Schema) -> int:
        started = time.time_ns()  # a merge that begins later has seen what this one leaves, and wins over it
        files = [(file, file.stat()) for file in self.readable(listed)]
        if len(files) < 2:
            return 0
        keys: set[str] = set()
        kept, merged = [], []
        for file, stat in files:
            table = self._table(file, schema=schema)
            if table is None:
                continue
            merged.append((file, stat))
            found = table["trial_key"].to_pylist()
            kept.append(table.filter(pa.array([key not in keys for key in found], type=pa.bool_())))
            keys |= set(found)
        if len(kept) < 2:
            return 0
        _write_atomically(pa.concat_tables(kept), listed[0].parent / f"{COMPACTED}{started:020d}.parquet")
        for file, stat in merged:
            with suppress(FileNotFoundError):
                now = file.stat()
                if (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns):
                    file.unlink()
        return len(keys)

    def _files(self, directory: Path) -> Sequence[Path]:
        """The files of a table in the order in which they count: a trial's own file, then merged ones, newest first."""
        files = sorted(file for file in directory.glob("*.parquet") if not file.name.startswith("."))
        own = [file for file in files if not file.name.startswith(COMPACTED)]
        return [*own, *reversed([file for file in files if file.name.startswith(COMPACTED)])]

    def _readable(self, file: Path) -> bool:
        with self._setting_aside(file):
            version = (pq.read_schema(file).metadata or {}).get(b"laser_sweep_schema", b"0")
            if version.isdigit() and 0 < int(version) <= SCHEMA_VERSION:
                return True
            _log.warning("%s was not written by this version of laser_sweep and is left out", file)
        return False

    def _table(self, file: Path, **options: Any) -> pa.Table | None:
        """The rows of a file, None where it is not one of ours or damaged."""
        if self._readable(file):
            with self._setting_aside(file):
                return pq.read_table(file, partitioning=None, **options)
        return None

    @contextmanager
    def _setting_aside(self, file: Path) -> Iterator[None]:
        """Sets a file aside where the body finds that what is in it is damaged."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            # With an error number it is the system that failed, not the file: it may be gone, or there in a moment.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            self._set_aside(file, error)

    def _set_aside(self, file: Path, error: Exception) -> None:
        """Renames a damaged file so that no reader of the directory trips over it; its trial runs again."""
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        target = file.with_suffix(".parquet.damaged")
        _log.warning("%s cannot be read (%s); set aside as %s", file, reason, target.name)
        with suppress(OSError):  # a read-only store: the file is only left out
            file.rename(target)


def _scores(table: pa.Table) -> ExampleScores:
    """Of rows with the columns `_SCORES`; those of an episode or of an answer are null."""
    ids = tuple(table["example_id"].to_pylist())
    if table["episode_return"].null_count < table.num_rows:
        returns, errors = (table[name].to_numpy() for name in ("episode_return", "action_error"))
        return ExampleScores(ids, returns.astype(np.float64), errors.astype(np.float64))
    correct, log_prob, length = (table[name].to_numpy() for name in ("correct", "gold_log_prob", "gold_length"))
    return ExampleScores(ids, correct, -log_prob / length)


def _write_atomically(table: pa.Table, target: Path, **options: Any) -> None:
    with replacing(target) as temporary:
        pq.write_table(table, temporary, **{"compression": "zstd", **options})
