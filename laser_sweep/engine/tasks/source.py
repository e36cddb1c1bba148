"""Reads the rows of a data set from a local file or from the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from laser_sweep.engine import hub
from laser_sweep.engine.tasks.spec import DatasetSpec, HubSource
from laser_sweep.errors import RequestError, listing

Row: TypeAlias = Mapping[str, Any]
_READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}


def read_rows(spec: DatasetSpec, columns: Sequence[str]) -> Iterable[Row]:
    """The rows of a data set in order. Raises RequestError where there is none, or where it lacks one of `columns`."""
    if spec.path is not None:
        file = hub.local_path(spec.path)
        if file is None or not file.is_file():
            raise RequestError(
                f"dataset.path={spec.path} is not a file; "
                f"give a {listing(_READERS)} file with columns {listing(columns)}"
            )
        files, origin = [file], f"dataset.path={spec.path}"
    elif spec.hub is not None:
        files, origin = _hub_files(spec.hub), f"dataset={spec.name}"
    else:
        raise RequestError(f"dataset={spec.name} needs dataset.path=<file> with columns {listing(columns)}")
    return _load(files, origin, columns)


def _hub_files(source: HubSource) -> list[Path]:
    located = hub.locate(
        source.repo, override="dataset.hub.repo", revision=source.revision, patterns=source.files, kind="dataset"
    )
    files = [file for pattern in source.files for file in sorted(located.directory.glob(pattern))]
    for pattern in source.files:
        if not any(located.directory.glob(pattern)):
            raise RequestError(f"dataset.hub.repo={source.repo} has no {pattern} at revision {source.revision}")
    return files


def _load(files: Sequence[Path], origin: str, columns: Sequence[str]) -> Iterable[Row]:
    import datasets
    from datasets.exceptions import DatasetGenerationError

    suffix = files[0].suffix
    if suffix not in _READERS:
        raise RequestError(f"{origin} ends in {suffix or 'nothing'}; read are {listing(_READERS)}")
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        rows = datasets.load_dataset(_READERS[suffix], data_files=[str(file) for file in files], split="train")
    except (DatasetGenerationError, ValueError, OSError) as error:
        if all(file.stat().st_size == 0 for file in files):
            raise RequestError(f"{origin} has no rows") from None
        reason = " ".join(str(error.__cause__ or error).split())
        raise RequestError(f"{origin} cannot be read as {suffix}: {reason}") from None
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise RequestError(
            f"{origin} lacks the column {listing(missing)}; it has {listing(rows.column_names)}, "
            f"and the task reads {listing(columns)}"
        )
    if len(rows) == 0:
        raise RequestError(f"{origin} has no rows")
    result: Iterable[Row] = rows
    return result
