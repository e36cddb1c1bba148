"""Which trial is exported, and the model that it edited. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from laser_sweep.engine import hub
from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec, read_roles
from laser_sweep.errors import RequestError, listing
from laser_sweep.store.reader import find_trial, read_trials
from laser_sweep.store.stored import StoredTrial, python_row, read_config, stored_trial
from laser_sweep.store.winners import Measured, measured, winners

BEST = "best"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A finished trial with edits: its row, its configuration, and how its edits did on val and test."""

    store: str
    row: Mapping[str, Any]
    trial: StoredTrial
    config: Mapping[str, Any]
    measured: Sequence[Measured]

    @property
    def title(self) -> str:
        """`laser fc_in[1] rho=0.01 of demo`."""
        return f"{self.trial.intervention} {self.trial.describe()} of {self.trial.model.name}"


def choose(store: str, asked: str) -> Chosen:
    """The trial that `asked` names: a key, the beginning of one, or `best`.

    Raises RequestError where that is none or several, and for a trial that left nothing to export.
    """
    row = _best(store) if asked == BEST else find_trial(store, asked)
    key = row["trial_key"]
    if row["status"] != "done":
        raise RequestError(f"trial {key} failed, so it edited nothing: {row['error']}")
    if len(row["edits"]) == 0:
        raise RequestError(f"trial {key} is the untouched model; give the key of one with an edit")
    values = python_row(row)
    trial = stored_trial(values)
    matrices = [edit.matrix for edit in trial.edits]
    twice = next((matrix for matrix in matrices if matrices.count(matrix) > 1), None)
    if twice is not None:
        raise RequestError(f"trial {key} edits {twice} more than once, which an export does not repeat")
    return Chosen(
        store=store, row=values, trial=trial, config=read_config(row["config_json"]), measured=measured(store, key)
    )


def _best(store: str) -> pd.Series[Any]:
    found = [winner for winner in winners(store) if winner.best is not None]
    if not found:
        raise RequestError(f"--store {store} has no finished edit on val, so none is the best; give the key of a trial")
    if len(found) > 1:
        names = (f"{w.best.row['trial_key']} ({w.view.model} on {w.view.dataset})" for w in found if w.best is not None)
        raise RequestError(f"--store {store} has {len(found)} best trials: {listing(names)}; give the key of one")
    (winner,) = found
    assert winner.best is not None
    key = winner.best.row["trial_key"]
    if winner.loses:
        raise RequestError(
            f"no edit in --store {store} beats the untouched model; to export the best all the same give its key {key}"
        )
    trials = read_trials(store)
    return trials[trials["trial_key"].eq(key)].iloc[0]


def find_base(chosen: Chosen) -> Checkpoint:
    """The model that the trial edited, at the revision that it had then.

    Raises RequestError where it cannot be had any more.
    """
    key, model = chosen.trial.key, chosen.trial.model
    spec = _spec(chosen)
    if hub.local_path(spec.path) is None:
        spec = replace(spec, revision=model.revision.partition("+")[0])
    checkpoint = find_checkpoint(spec)
    now = checkpoint.identity
    for what, then, today in (("revision", model.revision, now.revision), ("dtype", model.dtype, now.dtype)):
        if then != today:
            raise RequestError(
                f"trial {key} edited {model.name} at {what} {then}, but model.path={spec.path} is now at {today}; "
                "bring the old files back, or run the sweep again"
            )
    return checkpoint


def _spec(chosen: Chosen) -> ModelSpec:
    values = chosen.config.get("model")
    if not isinstance(values, Mapping):
        raise RequestError(
            f"trial {chosen.trial.key} was stored without its configuration, which says where its model is; "
            "export one that a sweep stored"
        )
    try:
        return TypeAdapter(ModelSpec).validate_python({**values, "roles": read_roles(values.get("roles") or {})})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestError(
            f"the configuration of trial {chosen.trial.key} has model.{where}={first['input']}: {first['msg']}"
        ) from None
