"""Weights & Biases: one run for a sweep, a history row for each trial, and a table of all at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

import wandb

from laser_sweep.sweep.tracking.tracker import TrackingSpec
from laser_sweep.trial import TrialResult

_INIT_SECONDS = 30  # a server that does not answer must not hold up a sweep
_COLUMNS = (
    "trial_key",
    "model",
    "dataset",
    "split",
    "intervention",
    "tau",
    "layer",
    "rho",
    "status",
    "accuracy",
    "accuracy_stderr",
    "log_loss",
    "gain",
    "gain_p_value",
)


class WandbTracker:
    """Talks to W&B from the driver alone. Respects WANDB_MODE, WANDB_PROJECT and WANDB_ENTITY."""

    def __init__(self, spec: TrackingSpec) -> None:
        self._spec = spec
        self._run: wandb.Run | None = None
        self._rows: list[Iterable[Any]] = []

    def start(self, sweep: str, config_json: str) -> None:
        config = json.loads(config_json)
        os.makedirs(self._spec.dir, exist_ok=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", self._spec.project),
            entity=os.environ.get("WANDB_ENTITY", self._spec.entity),
            name=sweep,
            group=sweep,
            job_type="sweep",
            tags=[str(config[group].get("name")) for group in ("model", "dataset", "intervention")],
            config=config,
            dir=self._spec.dir,
            mode=self._mode(),
            reinit="create_new",
            settings=wandb.Settings(silent=True, init_timeout=_INIT_SECONDS),
        )
        self._run.define_metric("trial")
        self._run.define_metric("val/*", step_metric="trial")
        self._run.define_metric("val/accuracy", step_metric="trial", summary="max")
        self._run.define_metric("val/log_loss", step_metric="trial", summary="min")

    def trial(self, result: TrialResult) -> None:
        if self._run is None:
            return
        row = _row(result)
        self._rows.append([row[column] for column in _COLUMNS])
        measured = {
            f"{row['split']}/{name}": row[name]
            for name in ("accuracy", "accuracy_stderr", "log_loss", "gain", "gain_p_value")
            if row[name] is not None
        }
        labels = {name: row[name] for name in ("trial_key", "tau", "layer", "rho", "status")}
        self._run.log({"trial": len(self._rows), **labels, **measured})

    def finish(self) -> str | None:
        if self._run is None:
            return None
        run, self._run = self._run, None
        run.log({"trials": wandb.Table(columns=list(_COLUMNS), data=self._rows)})
        run.finish()
        if run.settings.mode == "offline":
            return f"W&B run is offline; to upload it: wandb sync {os.path.relpath(run.settings.sync_dir)}"
        return run.url

    def _mode(self) -> Any:
        """The user's WANDB_MODE, else the configured mode, where `auto` means online if there is a key."""
        if "WANDB_MODE" in os.environ:
            return os.environ["WANDB_MODE"]
        if self._spec.mode != "auto":
            return self._spec.mode
        return "online" if wandb.login(prompt=False, verify=False) else "offline"


def _row(result: TrialResult) -> dict[str, Any]:
    trial, metrics = result.trial, result.metrics
    return {
        "trial_key": trial.key,
        "model": trial.model.name,
        "dataset": trial.evaluation.dataset,
        "split": trial.evaluation.split,
        "intervention": trial.intervention,
        "tau": trial.tau,
        "layer": trial.layer,
        "rho": trial.rho,
        "status": result.status,
        "accuracy": None if metrics is None else metrics.accuracy,
        "accuracy_stderr": None if metrics is None else metrics.accuracy_stderr,
        "log_loss": None if metrics is None else metrics.log_loss,
        "gain": result.gain,
        "gain_p_value": result.gain_p_value,
    }
