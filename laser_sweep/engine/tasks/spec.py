"""What the `dataset` config group says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A data set's Parquet files on the hub: `files` are glob patterns inside the repository, read in order."""

    repo: str
    revision: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """Which rows to read and which task makes examples of them; `path` is a local file that takes the hub's place."""

    name: str
    task: str
    path: str | None = None
    hub: HubSource | None = None
