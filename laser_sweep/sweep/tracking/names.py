"""What W&B calls things: metrics, tags and the configuration of a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from laser_sweep import measures
from laser_sweep.trial import Trial, TrialResult

BETTER = {**measures.BETTER, "gain": "max"}
"""The metrics that a person ranks runs by, and which end of each is the good one."""

_MEASURED = (
    "accuracy_stderr",
    "balanced_accuracy",
    "majority_accuracy",
    "top1_accuracy",
    "top5_accuracy",
    "top10_accuracy",
    "f1",
    "group_accuracy",
    "return_stderr",
    "success_rate",
    "gain_p_value",
)
_TAG_CHARACTERS = 64  # W&B takes no longer ones


def section(trial: Trial, config: Mapping[str, Any]) -> str:
    """What stands before the metrics of a trial: `val`, `test`, or more where they cannot be compared with those.

    That is the case on another data set than the sweep's own, which is the guard's (`guard/val`), and on fewer examples
    than the sweep may use, as in the first rungs of a search (`val_32`).
    """
    asked = trial.evaluation
    own = (config.get("dataset") or {}).get("name", asked.dataset)
    limit = (config.get("evaluation") or {}).get("limit" if asked.split == "val" else "test_limit")
    rung = "" if asked.limit in (None, limit) else f"_{asked.limit}"
    return f"{'' if own == asked.dataset else f'{asked.dataset}/'}{asked.split}{rung}"


def metrics(row: Mapping[str, Any], section: str) -> dict[str, float]:
    """The figures of merit that a trial has, `val/accuracy` and so on; `row` is its row of the store."""
    return {f"{section}/{name}": row[name] for name in (*BETTER, *_MEASURED) if row[name] is not None}


def tags(*names: object) -> list[str]:
    """Names by which runs are found, each once."""
    return list(dict.fromkeys(str(name)[:_TAG_CHARACTERS] for name in names if name not in (None, "")))


def group_names(config: Mapping[str, Any]) -> list[Any]:
    """The model, data set and intervention of a configuration, as far as it says them."""
    return [(config.get(group) or {}).get("name") for group in ("model", "dataset", "intervention")]


def trial_config(result: TrialResult, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with τ, ℓ, ρ of this trial in place of all that were asked for, and its edits and examples."""
    trial = result.trial
    return {
        **config,
        "tau": trial.tau,
        "layer": trial.layer,
        "rho": trial.rho,
        "split": trial.evaluation.split,
        "trial": {
            "key": trial.key,
            "edits": [
                {
                    "tau": edit.matrix.tau,
                    "layer": edit.matrix.layer,
                    "rho": edit.rho,
                    "method": edit.method,
                    "options": dict(edit.options),
                }
                for edit in trial.edits
            ],
            "evaluation": asdict(trial.evaluation),
        },
    }
