"""A stored trial asked again with other edits: from its row back to the model, the data set and the examples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from laser_sweep.cli import make_executor
from laser_sweep.config import Request, read_values
from laser_sweep.engine.tasks.rollouts import Rollouts
from laser_sweep.errors import RequestError
from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import Job, build_jobs
from laser_sweep.sweep.measure import Measurer
from laser_sweep.sweep.progress import make_progress
from laser_sweep.sweep.protocols import Candidate
from laser_sweep.sweep.run import Sweep
from laser_sweep.sweep.search.space import Place, Space
from laser_sweep.sweep.tracking.tracker import NullTracker
from laser_sweep.trial import Edit, Matrix, Trial, TrialResult


@dataclass(frozen=True, slots=True, kw_only=True)
class _Only(Space):
    """One candidate: the edits of a composition have no τ, ℓ and ρ in common from which a grid could make them."""

    chosen: Candidate

    def grid(self, places: Iterable[Place] | None = None) -> list[Candidate]:
        return [self.chosen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A stored trial with its edits made by another method, ready to be measured on the same examples.

    `untouched` is the model without edits on these examples.
    """

    request: Request
    job: Job
    trial: Trial
    untouched: Trial
    store: ParquetStore

    def prompts(self) -> Mapping[str, str]:
        """The prompts of the examples by example id."""
        asked, task = self.trial.evaluation, self.job.task
        if isinstance(task, Rollouts):
            raise RequestError(f"trial {self.trial.key} plays episodes of {task.conditions.env.id}: it has no prompts")
        examples = task.split(asked.split, asked.limit, asked.seed)
        return {example.id: example.prompt for example in examples}

    def measure(self) -> TrialResult:
        """The result, from the store or else measured in this process, as the command does, and stored.

        Raises KeyboardInterrupt where a person stops it.
        """
        wanted = (self.untouched, self.trial)
        stored = self.store.find(wanted)
        if all(trial.key in stored and stored[trial.key].ok for trial in wanted):
            return stored[self.trial.key]
        self.store.check_writable()
        settings = self.request.settings
        sweep = Sweep(
            Measurer(
                executor=make_executor([self.job], settings.cluster, settings.cache, on_ray=False),
                store=self.store,
                tracker=NullTracker(),
                progress=make_progress(),
                resume=settings.resume,
            )
        )
        outcome = sweep.run([self.job])
        if outcome.interrupted:
            raise KeyboardInterrupt
        return outcome.results[self.trial.key]


def vary(root: str | Path, row: pd.Series[Any], method: str) -> Variant:
    """The trial of a row of a store with all its edits made by an intervention without options.

    Raises RequestError where its configuration does not lead back to what it measured.
    """
    chosen = Candidate(
        edits=tuple(replace(edit, method=method, options=()) for edit in _edits(row)),
        intervention=method,
        tau=_given(row["tau"]),
        layer=None if pd.isna(row["layer"]) else int(row["layer"]),
        rho=_given(row["rho"]),
    )
    try:
        for dataset in _datasets(root, row):
            request = read_values({**_configuration(row, method), "dataset": dataset, "store": {"path": str(root)}})
            (job,) = build_jobs([request.question])
            untouched = job.untouched(row["split"])
            if replace(untouched, edits=_edits(row)).key == row["trial_key"]:
                space = _Only(intervention=request.question.intervention, places=(), rhos=(), chosen=chosen)
                return Variant(
                    request=request,
                    job=replace(job, space=space),
                    trial=job.trial(chosen, row["split"]),
                    untouched=untouched,
                    store=ParquetStore(root),
                )
    except RequestError as error:
        raise RequestError(f"trial {row['trial_key']} cannot be asked again: {error}") from None
    raise RequestError(
        f"trial {row['trial_key']} cannot be asked again: its model, its data set or the way of scoring has changed; "
        f"run its sweep again"
    )


def _edits(row: pd.Series[Any]) -> tuple[Edit, ...]:
    return tuple(
        Edit(
            matrix=Matrix(edit["tau"], edit["layer"]),
            rho=edit["rho"],
            method=edit["method"],
            options=tuple(sorted(json.loads(edit["options"]).items())),
        )
        for edit in row["edits"]
    )


def _config(row: pd.Series[Any]) -> dict[str, Any]:
    """The configuration of a trial, empty where it has none that can be read."""
    try:
        config = json.loads(row["config_json"])
    except (ValueError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}


def _datasets(root: str | Path, row: pd.Series[Any]) -> Iterator[Mapping[str, Any]]:
    """What the trial may have asked: what configurations of the store call by the name of its data set, its own first.

    A guard is part of a configuration whose data set is another.
    """
    trials = read_trials(root)
    tried: list[object] = []
    for config in (
        _config(row),
        *(_config(other) for _, other in trials[trials["dataset"].eq(row["dataset"])].iterrows()),
    ):
        for group in (config.get("dataset"), (config.get("guard") or {}).get("dataset")):
            if group and group.get("name") == row["dataset"] and group not in tried:
                tried.append(group)
                yield group


def _configuration(row: pd.Series[Any], method: str) -> dict[str, Any]:
    """What a person would have asked for to get the variant, in the terms of the stored configuration.

    A trial on test has one on val beside it, as the configuration knows no test alone.
    """
    config = _config(row)
    limit = None if pd.isna(row["limit"]) else int(row["limit"])
    on_val = {"split": "val", "limit": limit}
    on_test = {"split": "all", "test_limit": limit}
    asked = {"tau": row["tau"], "layer": "all" if pd.isna(row["layer"]) else int(row["layer"]), "rho": row["rho"]}
    return {
        "cluster": {},
        "cache": {},
        **{key: value for key, value in config.items() if key != "guard"},
        **({} if pd.isna(row["tau"]) else asked),
        "sweep": row["sweep"],
        "intervention": {"name": method, "method": method, "options": {}},
        "evaluation": {
            **(config.get("evaluation") or {}),
            "confirm": False,
            **(on_val if row["split"] == "val" else on_test),
        },
        "search": {"name": "grid"},
        "objective": "auto",
        "tracking": {"kind": "none"},
        "resume": "errored",
        "dry_run": False,
    }


def _given(value: Any) -> Any:
    """None for what the row does not have, which pandas makes a number that is none."""
    return None if pd.isna(value) else value
