"""Weights & Biases: one run for a sweep, with a history row for each trial, or one run for each trial."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import psutil
import wandb

from laser_sweep.store.rows import to_row
from laser_sweep.sweep.protocols import Tracker
from laser_sweep.sweep.tracking.heat_maps import heat_maps
from laser_sweep.sweep.tracking.names import BETTER, group_names, metrics, section, tags, trial_config
from laser_sweep.sweep.tracking.tracker import NullTracker, TrackingSpec
from laser_sweep.trial import TrialResult, content_key

_INIT_SECONDS = 30  # a server that does not answer must not hold up a sweep,
_FINISH_SECONDS = 120  # nor one that stops answering; what is not sent by then can be sent with `wandb sync`
_SERVICE = "wandb-core"  # the process that writes and sends
_NAME_CHARACTERS = 128  # W&B takes no longer names
_COLUMNS = (
    "trial_key",
    "model",
    "dataset",
    "split",
    "limit",
    "intervention",
    "tau",
    "layer",
    "rho",
    "status",
    "error",
    "num_examples",
    "accuracy",
    "accuracy_stderr",
    "log_loss",
    "mean_return",
    "return_stderr",
    "action_error",
    "gain",
    "gain_p_value",
)


class WandbTracker:
    """Talks to W&B from the driver alone. Respects WANDB_MODE, WANDB_PROJECT and WANDB_ENTITY.

    A sweep that is tracked twice makes two runs, or with `replayed` the same one again: row by row, as its steps are
    the trials' places, so nothing doubles. A run for a trial is the trial's own, however often it is tracked.
    """

    def __init__(self, spec: TrackingSpec, *, replayed: bool = False) -> None:
        door = _Door(spec, replayed)
        self._tracker: Tracker = _SweepRuns(door) if spec.granularity == "sweep" else _TrialRuns(door)
        self._failed = False

    def start(self, sweep: str, config_json: str) -> None:
        with self._noticing():
            self._tracker.start(sweep, config_json)

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        with self._noticing():
            self._tracker.trial(result, sweep, config_json)

    def finish(self) -> str | None:
        try:
            with self._noticing():
                return self._tracker.finish()
        finally:
            if self._failed:
                _tear_down()

    def abandon(self) -> None:
        """Kills W&B's service, for which W&B would wait when this process ends."""
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if child.name() == _SERVICE:
                    child.kill()
        _tear_down()

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self._failed = True
            raise


def _tear_down() -> None:
    """Else a service that has died makes W&B print a traceback when this process ends, and here raise SystemExit."""
    with suppress(Exception, SystemExit):
        wandb.teardown()


@dataclass(frozen=True, slots=True)
class _Door:
    """Where runs are opened."""

    spec: TrackingSpec
    replayed: bool

    def open(self, *, mode: Any, sweep: str, alone: bool, **about: Any) -> wandb.Run:
        """`alone` is a run that says nothing of the machine: there are many of them, or it is not the one that ran."""
        directory = os.path.abspath(self.spec.dir)  # W&B's process may have been started elsewhere
        os.makedirs(directory, exist_ok=True)
        settings: dict[str, Any] = {"silent": True, "init_timeout": _INIT_SECONDS, "finish_timeout": _FINISH_SECONDS}
        if alone:
            settings |= {"console": "off", "x_disable_stats": True, "x_disable_meta": True, "disable_git": True}
        with nullcontext() if alone else _no_arguments():
            return wandb.init(
                project=os.environ.get("WANDB_PROJECT", self.spec.project),
                entity=os.environ.get("WANDB_ENTITY", self.spec.entity),
                group=sweep[:_NAME_CHARACTERS],
                dir=directory,
                mode=mode,
                reinit="create_new",
                settings=wandb.Settings(finish_timeout_raises=True, **settings),
                **about,
            )

    def mode(self) -> Any:
        """The user's WANDB_MODE, else the configured mode, where `auto` means online if there is a key."""
        if "WANDB_MODE" in os.environ:
            return os.environ["WANDB_MODE"]
        if self.spec.mode != "auto":
            return self.spec.mode
        return "online" if wandb.login(prompt=False, verify=False) else "offline"


@contextmanager
def _no_arguments() -> Iterator[None]:
    """W&B copies the command line, which may hold keys and tokens: `+cluster.env.HF_TOKEN=...`."""
    arguments = sys.argv[1:]
    del sys.argv[1:]
    try:
        yield
    finally:
        sys.argv[1:] = arguments


@dataclass(slots=True)
class _SweepRun:
    """The run of a sweep with what it has been told."""

    run: wandb.Run
    rows: list[dict[str, Any]] = field(default_factory=list)
    sections: set[str] = field(default_factory=set)

    def log(self, result: TrialResult, sweep: str, config_json: str) -> None:
        """A history row; its step is the number of the trial."""
        row, number = to_row(result, sweep, config_json), len(self.rows) + 1
        under = section(result.trial, json.loads(config_json))
        self._define(under)
        labels = {name: row[name] for name in ("trial_key", "tau", "layer", "rho", "num_examples", "status")}
        self.run.log({"trial": number, **labels, **metrics(row, under)}, step=number)
        self.rows.append(row)

    def log_all(self) -> None:
        """The table of all trials and their heat maps, in the step of the last trial."""
        if not self.rows:
            return
        table = wandb.Table(columns=list(_COLUMNS), data=[[row[column] for column in _COLUMNS] for row in self.rows])
        self.run.log({"trials": table}, step=len(self.rows))
        figures = {name: wandb.Plotly(figure) for name, figure in heat_maps(self.rows).items()}
        if figures:
            self.run.log(figures, step=len(self.rows))

    def _define(self, under: str) -> None:
        if under not in self.sections:
            self.sections.add(under)
            self.run.define_metric(f"{under}/*", step_metric="trial")
            for name, best in BETTER.items():
                self.run.define_metric(f"{under}/{name}", step_metric="trial", summary=best)


class _SweepRuns(NullTracker):
    """A run for each name of a sweep."""

    def __init__(self, door: _Door) -> None:
        self._door = door
        self._runs: dict[str, _SweepRun] = {}

    def start(self, sweep: str, config_json: str) -> None:
        config = json.loads(config_json)
        run = self._door.open(
            mode=self._door.mode(),
            sweep=sweep,
            alone=self._door.replayed,
            id=content_key({"sweep": sweep}) if self._door.replayed else None,
            name=sweep[:_NAME_CHARACTERS],
            job_type="sweep",
            tags=tags(*group_names(config)),
            config=config,
        )
        self._runs[sweep] = _SweepRun(run)
        run.define_metric("trial")

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        if sweep not in self._runs:
            self.start(sweep, config_json)
        self._runs[sweep].log(result, sweep, config_json)

    def finish(self) -> str | None:
        runs = [one.run for one in self._runs.values()]
        with ExitStack() as ending:
            for run in runs:
                ending.callback(run.finish)
            for one in self._runs.values():
                one.log_all()
        self._runs = {}
        offline = [os.path.relpath(run.settings.sync_dir) for run in runs if run.settings.mode == "offline"]
        if offline:
            return f"{_count('W&B run', len(offline))} offline; to upload: wandb sync {' '.join(offline)}"
        return " ".join(str(run.url) for run in runs if run.url) or None


class _TrialRuns(NullTracker):
    """A run for each trial, under its key."""

    def __init__(self, door: _Door) -> None:
        self._door = door
        self._mode: Any = None
        self._written = 0
        self._where: str | None = None

    def start(self, sweep: str, config_json: str) -> None:
        self._mode = self._door.mode()

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        if self._mode is None:
            self.start(sweep, config_json)
        config = json.loads(config_json)
        trial, row = result.trial, to_row(result, sweep, config_json)
        run = self._door.open(
            mode=self._mode,
            sweep=sweep,
            alone=True,
            id=trial.key,
            name=trial.describe()[:_NAME_CHARACTERS],
            job_type="trial",
            tags=tags(*group_names(config), trial.tau, trial.evaluation.split),
            config=trial_config(result, config),
            resume="allow",
            allow_val_change=True,
        )
        try:
            # In the summary alone: a history would go on where the run is written a second time.
            run.summary.update({**_standing(row), **metrics(row, section(trial, config))})
        finally:
            run.finish()
        self._written += 1
        if self._mode == "offline":
            self._where = os.path.join(os.path.relpath(os.path.dirname(run.settings.sync_dir)), "offline-run-*")
        elif run.url is not None:
            self._where = f"{run.project_url}/groups/{quote(sweep, safe='')}"

    def finish(self) -> str | None:
        if self._mode == "offline" and self._where is not None:
            return f"{_count('W&B run', self._written)} offline; to upload: wandb sync {self._where}"
        return self._where


def _standing(row: Mapping[str, Any]) -> dict[str, Any]:
    """What became of a trial, next to its metrics."""
    names = ("status", "error", "num_examples", "parameters", "seconds_factor", "seconds_edit", "seconds_eval")
    return {name: row[name] for name in names if row[name] is not None}


def _count(what: str, number: int) -> str:
    return f"{what} is" if number == 1 else f"{number:,} {what}s are"
