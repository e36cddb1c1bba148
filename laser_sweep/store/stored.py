"""Results as a store remembers them, without the sweep that asked for them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from laser_sweep.store.reader import stream
from laser_sweep.store.rows import from_row
from laser_sweep.store.schema import TRIALS
from laser_sweep.trial import Edit, Evaluation, Matrix, ModelId, Trial, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrial(Trial):
    """A trial as its row describes it. A row does not hold all that a key is made of, but it holds the key."""

    stored_key: str

    @property
    def key(self) -> str:
        return self.stored_key


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result without its predictions, and what it was stored with."""

    result: TrialResult
    sweep: str
    config_json: str


def stored_results(root: str | Path) -> Iterator[StoredResult]:
    """All results of a store, in the order in which they were finished. Raises RequestError where there is no store."""
    rows: pa.Table = stream(root, "trials", lambda batches: batches.read_all())
    for batch in rows.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            yield StoredResult(from_row(row, stored_trial(row)), row["sweep"], row["config_json"])


def stored_trial(row: Mapping[str, Any]) -> StoredTrial:
    """The trial of a row whose values are Python's, None where there is none.

    What a row does not say is empty: the revision of the data set, and the hub id of the model.
    """
    config = read_config(row["config_json"])
    evaluation = config.get("evaluation") or {}
    return StoredTrial(
        stored_key=row["trial_key"],
        model=ModelId(name=row["model"], repo="", revision=row["model_revision"], dtype=row["dtype"]),
        edits=tuple(_edit(edit) for edit in row["edits"]),
        evaluation=Evaluation(
            dataset=row["dataset"],
            revision="",
            split=row["split"],
            limit=row["limit"],
            seed=None if row["limit"] is None else config.get("seed"),
            exact=evaluation.get("exact", True),
        ),
        intervention=row["intervention"],
        tau=row["tau"],
        layer=row["layer"],
        rho=row["rho"],
    )


def python_row(row: pd.Series[Any]) -> dict[str, Any]:
    """A row of `read_trials` with Python's values, None where there is none."""
    return {field.name: _python(row[field.name], field.type) for field in TRIALS}


def _python(value: Any, kind: pa.DataType) -> Any:
    """pandas has floats for integers that may be missing, and nan for what is."""
    if pa.types.is_nested(kind):
        return None if value is None else [_plain(one) for one in value]
    if pd.isna(value):
        return None
    return int(value) if pa.types.is_integer(kind) else float(value) if pa.types.is_floating(kind) else value


def _plain(value: Any) -> Any:
    """An entry of a list of edits or of counts; arrays become lists."""
    if isinstance(value, dict):
        return {name: one.tolist() if hasattr(one, "tolist") else one for name, one in value.items()}
    return tuple(value)


def read_config(config_json: str | None) -> dict[str, Any]:
    """The configuration of a row; empty where it is no mapping."""
    try:
        config = json.loads(config_json or "")
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def kind_of_error(error: str | None) -> str:
    """What errors of one kind have in common: out of memory, a device says other numbers and addresses each time."""
    first = ((error or "").strip().splitlines() or ["no reason was stored"])[0]
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "…", first)


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a configuration by dotted key; an empty mapping has none."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def _edit(edit: Mapping[str, Any]) -> Edit:
    """Before version 3 options were not stored."""
    options = json.loads(edit.get("options") or "{}")
    matrix = Matrix(edit["tau"], edit["layer"])
    return Edit(matrix=matrix, rho=edit["rho"], method=edit["method"], options=tuple(sorted(options.items())))
