"""TrialResult <-> a row of the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from laser_sweep.store.schema import SCHEMA_VERSION
from laser_sweep.trial import Episodes, Footprint, Metrics, Seconds, Trial, TrialResult

_METRICS = (
    "num_examples",
    "num_skipped",
    "accuracy",
    "accuracy_stderr",
    "log_loss",
    "majority_accuracy",
    "balanced_accuracy",
    "top1_accuracy",
    "top5_accuracy",
    "top10_accuracy",
    "f1",
    "group_accuracy",
    "mean_return",
    "return_stderr",
    "action_error",
    "success_rate",
)
_EPISODE = ("episode_return", "episode_length", "success", "action_error")
_ANSWER = ("gold_log_prob", "gold_length", "gold_rank", "text_rank", "f1", "group", "subject", "relation", "frequency")


def to_row(result: TrialResult, sweep: str, config_json: str) -> dict[str, Any]:
    """The row of `trials` for a result."""
    trial, metrics = result.trial, result.metrics
    footprints = result.footprints or (Footprint(),) * len(trial.edits)
    return {
        "trial_key": trial.key,
        "sweep": sweep,
        "model": trial.model.name,
        "model_revision": trial.model.revision,
        "dtype": trial.model.dtype,
        "dataset": trial.evaluation.dataset,
        "split": trial.evaluation.split,
        "limit": trial.evaluation.limit,
        "intervention": trial.intervention,
        "tau": trial.tau,
        "layer": trial.layer,
        "rho": trial.rho,
        "edits": [
            {
                "tau": edit.matrix.tau,
                "layer": edit.matrix.layer,
                "rho": edit.rho,
                "method": edit.method,
                "rank": footprint.rank,
                "options": json.dumps(dict(edit.options), sort_keys=True, separators=(",", ":")),
                "parameters": footprint.parameters,
                "row_clusters": footprint.row_clusters,
            }
            for edit, footprint in zip(trial.edits, footprints, strict=True)
        ],
        "parameters": result.parameters,
        "status": result.status,
        "error": result.error,
        **{name: None if metrics is None else getattr(metrics, name) for name in _METRICS},
        "prediction_counts": None if metrics is None else metrics.prediction_counts,
        "gain": result.gain,
        "gain_p_value": result.gain_p_value,
        "attempt": result.attempt,
        "worker": result.worker,
        "device": result.device,
        "seconds_factor": result.seconds.factor,
        "seconds_edit": result.seconds.edit,
        "seconds_eval": result.seconds.eval,
        "started_at": datetime.fromtimestamp(result.started_at, timezone.utc),
        "finished_at": datetime.fromtimestamp(result.finished_at, timezone.utc),
        "config_json": config_json,
        "schema_version": SCHEMA_VERSION,
    }


def from_row(row: Mapping[str, Any], trial: Trial) -> TrialResult:
    """The result of `trial` as the store remembers it, without its predictions."""
    metrics = None
    if row["status"] == "done":
        counts = row["prediction_counts"]
        figures: dict[str, Any] = {name: row.get(name) for name in _METRICS}  # before version 4 there were no episodes
        metrics = Metrics(
            **figures,
            prediction_counts=None if counts is None else tuple((str(label), int(count)) for label, count in counts),
        )
    return TrialResult(
        trial=trial,
        status=row["status"],
        error=row["error"],
        metrics=metrics,
        footprints=tuple(_footprint(edit) for edit in row["edits"]),
        gain=row["gain"],
        gain_p_value=row["gain_p_value"],
        attempt=row["attempt"],
        worker=row["worker"],
        device=row["device"],
        seconds=Seconds(factor=row["seconds_factor"], edit=row["seconds_edit"], eval=row["seconds_eval"]),
        started_at=row["started_at"].timestamp(),
        finished_at=row["finished_at"].timestamp(),
    )


def _footprint(edit: Mapping[str, Any]) -> Footprint:
    """Of an edit as it is stored; before version 3 only its rank was."""
    row_clusters = edit.get("row_clusters")
    return Footprint(
        rank=edit["rank"],
        parameters=edit.get("parameters"),
        row_clusters=None if row_clusters is None else np.array(row_clusters, dtype=np.uint16),
    )


def to_prediction_columns(result: TrialResult) -> dict[str, Any]:
    """The columns of `predictions` for a finished trial."""
    predictions = result.predictions
    if predictions is None:
        raise ValueError(f"trial {result.trial.key} has no predictions")
    count = len(predictions.example_id)
    named = {"trial_key": [result.trial.key] * count, "example_id": list(predictions.example_id)}
    if isinstance(predictions, Episodes):
        return named | _episode_columns(predictions) | dict.fromkeys(_ANSWER, [None] * count)
    return named | {
        "gold": list(predictions.gold),
        "prediction": list(predictions.prediction),
        "correct": predictions.correct,
        "gold_log_prob": predictions.gold_log_prob,
        "gold_length": predictions.gold_length,
        "gold_rank": predictions.gold_rank,
        "text_rank": pa.array(predictions.text_rank, mask=predictions.text_rank < 0),
        "f1": pa.array(predictions.f1, from_pandas=True),  # nan becomes null
        "group": list(predictions.group),
        "subject": list(predictions.subject),
        "relation": list(predictions.relation),
        "frequency": list(predictions.frequency),
        **dict.fromkeys(_EPISODE, [None] * count),
    }


def _episode_columns(episodes: Episodes) -> dict[str, Any]:
    """Of an episode, `gold` is the return that was asked for, and `prediction` the one that it got, as texts."""
    count = len(episodes.example_id)
    return {
        "gold": [f"{episodes.target_return:g}"] * count,
        "prediction": [f"{value:g}" for value in episodes.returns.tolist()],
        "correct": [None] * count,
        "episode_return": episodes.returns,
        "episode_length": episodes.lengths,
        "success": [None] * count if episodes.success is None else episodes.success,
        "action_error": pa.array(episodes.action_error, from_pandas=True),  # nan becomes null
    }
