"""Files that an earlier version of the schema wrote."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laser_sweep.store.reader import read_predictions, read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Footprint, Trial, TrialResult

MakeTrial = Callable[..., Trial]
MakeResult = Callable[..., TrialResult]

# The columns of version 2, as its last commit had them.
EDIT_2 = pa.struct(
    [
        ("tau", pa.string()),
        ("layer", pa.int32()),
        ("rho", pa.float64()),
        ("method", pa.string()),
        ("rank", pa.int32()),
    ]
)
TRIALS_2 = pa.schema(
    [
        *(
            (name, pa.string())
            for name in ("trial_key", "sweep", "model", "model_revision", "dtype", "dataset", "split")
        ),
        ("num_examples", pa.int64()),
        ("num_skipped", pa.int64()),
        ("intervention", pa.string()),
        ("tau", pa.string()),
        ("layer", pa.int32()),
        ("rho", pa.float64()),
        ("edits", pa.list_(EDIT_2)),
        ("status", pa.string()),
        ("error", pa.string()),
        *((name, pa.float64()) for name in ("accuracy", "accuracy_stderr", "log_loss", "majority_accuracy")),
        *((name, pa.float64()) for name in ("balanced_accuracy", "top1_accuracy", "top5_accuracy", "top10_accuracy")),
        ("f1", pa.float64()),
        ("group_accuracy", pa.float64()),
        ("prediction_counts", pa.map_(pa.string(), pa.int64())),
        ("gain", pa.float64()),
        ("gain_p_value", pa.float64()),
        ("attempt", pa.int32()),
        ("worker", pa.string()),
        ("device", pa.string()),
        *((name, pa.float64()) for name in ("seconds_factor", "seconds_edit", "seconds_eval")),
        ("started_at", pa.timestamp("ms", tz="UTC")),
        ("finished_at", pa.timestamp("ms", tz="UTC")),
        ("config_json", pa.string()),
        ("schema_version", pa.int32()),
    ],
    metadata={"laser_sweep_schema": "2"},
)
PREDICTIONS_2 = pa.schema(
    [
        *((name, pa.string()) for name in ("trial_key", "example_id", "gold", "prediction")),
        ("correct", pa.bool_()),
        ("gold_log_prob", pa.float64()),
        ("gold_length", pa.int64()),
        ("gold_rank", pa.int64()),
        ("text_rank", pa.int64()),
        ("f1", pa.float64()),
        *((name, pa.string()) for name in ("group", "subject", "relation")),
        ("frequency", pa.float64()),
    ],
    metadata={"laser_sweep_schema": "2"},
)


def row_2(trial: Trial, **changes: Any) -> dict[str, Any]:
    """What version 2 stored for a trial."""
    now = datetime(2025, 6, 1, tzinfo=timezone.utc)
    edits = [
        {"tau": edit.matrix.tau, "layer": edit.matrix.layer, "rho": edit.rho, "method": edit.method, "rank": 17}
        for edit in trial.edits
    ]
    return {
        **dict.fromkeys(TRIALS_2.names),
        **{"trial_key": trial.key, "sweep": "old", "model": "tiny", "model_revision": "1", "dtype": "float32"},
        **{"dataset": "colours", "split": trial.evaluation.split, "num_examples": 4, "num_skipped": 1},
        **{"tau": trial.tau, "layer": trial.layer, "rho": trial.rho, "edits": edits, "status": "done"},
        **{"accuracy": 0.5, "accuracy_stderr": 0.25, "log_loss": 1.5, "prediction_counts": [("red", 3), ("blue", 1)]},
        **{"attempt": 2, "worker": "w", "device": "cpu", "seconds_factor": 1.0, "seconds_edit": 2.0},
        **{"seconds_eval": 3.0, "started_at": now, "finished_at": now, "config_json": "{}", "schema_version": 2},
        **changes,
    }


def write_2(store: ParquetStore, trial: Trial) -> None:
    """Stores a trial of four examples as version 2 did."""
    for directory in (store.trials, store.predictions):
        directory.mkdir(parents=True, exist_ok=True)
    answers = [
        {**dict.fromkeys(PREDICTIONS_2.names), "trial_key": trial.key, "example_id": str(i), "correct": i % 2 == 0}
        | {"gold_log_prob": -1.0, "gold_length": 2}
        for i in range(4)
    ]
    for directory, rows, schema in (
        (store.trials, [row_2(trial)], TRIALS_2),
        (store.predictions, answers, PREDICTIONS_2),
    ):
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), directory / f"{trial.key}.parquet")


def edits_of(frame: pd.DataFrame, trial: Trial) -> list[dict[str, Any]]:
    return list(frame.set_index("trial_key").loc[trial.key, "edits"])


def test_a_trial_of_version_2_is_found_with_its_rank_and_without_what_was_not_stored_then(
    store: ParquetStore, make_trial: MakeTrial, caplog: pytest.LogCaptureFixture
) -> None:
    trial = make_trial(0.1)
    write_2(store, trial)
    with caplog.at_level(logging.WARNING):
        found = store.find([trial])[trial.key]
        scores = store.scores(trial.key)
    assert found.footprints == (Footprint(rank=17),)
    assert found.parameters is None
    assert (found.measured().accuracy, found.measured().num_skipped, found.attempt) == (0.5, 1, 2)
    assert found.measured().prediction_counts == (("red", 3), ("blue", 1))
    assert scores is not None
    assert scores.scores.tolist() == [True, False, True, False]
    assert not caplog.records


def test_a_store_of_version_2_has_all_columns_of_today(
    store: ParquetStore, make_trial: MakeTrial, make_result: MakeResult
) -> None:
    trial = make_trial(0.1)
    write_2(store, trial)
    new = ParquetStore(store.root.with_name("new"))
    new.write(make_result(0.2), "sweep", "{}")
    frame = read_trials(store.root)
    assert list(frame.columns) == list(read_trials(new.root).columns)
    assert frame[["parameters", "limit"]].isna().all(axis=None)
    assert edits_of(frame, trial) == [
        {"tau": "fc_in", "layer": 3, "rho": 0.1, "method": "laser", "rank": 17}
        | {"options": None, "parameters": None, "row_clusters": None}
    ]
    assert frame["schema_version"].tolist() == [2]
    assert read_predictions(store.root, trial.key)["correct"].tolist() == [True, False, True, False]


@pytest.mark.parametrize("merged", [False, True])
def test_trials_of_both_versions_stand_side_by_side(
    store: ParquetStore,
    trials_of_every_first_digit: list[Trial],
    make_result: MakeResult,
    caplog: pytest.LogCaptureFixture,
    merged: bool,
) -> None:
    """Whichever version the first file of a directory has."""
    old, new = trials_of_every_first_digit[::2], trials_of_every_first_digit[1::2]
    made = Footprint(rank=3, parameters=99)
    for trial in old:
        write_2(store, trial)
    for trial in new:
        store.write(make_result(trial=trial, footprints=(made,)), "sweep", "{}")
    with caplog.at_level(logging.WARNING):
        if merged:
            assert store.compact() == 16
            assert len(list(store.trials.iterdir())) == 1
        frame = read_trials(store.root)
        found = store.find(trials_of_every_first_digit)
    assert not caplog.records
    assert len(frame) == 16
    parameters = frame.set_index("trial_key")["parameters"]
    assert parameters.loc[[trial.key for trial in old]].isna().all()
    assert parameters.loc[[trial.key for trial in new]].tolist() == [99] * 8
    assert [found[trial.key].footprints for trial in old] == [(Footprint(rank=17),)] * 8
    assert [found[trial.key].footprints for trial in new] == [(made,)] * 8
    assert [edits_of(frame, trial)[0]["options"] for trial in old + new] == [None] * 8 + ["{}"] * 8


@pytest.mark.parametrize("line", [["best"], ["show"], ["show", "KEY"], ["compare", "KEY", "NEW"], ["export"], ["sync"]])
def test_commands_read_what_version_2_wrote(
    command: Callable[..., Any],
    store: ParquetStore,
    make_trial: MakeTrial,
    make_result: MakeResult,
    monkeypatch: pytest.MonkeyPatch,
    line: list[str],
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    old, new = make_trial(0.1), make_result(0.2, examples=4)
    write_2(store, old)
    store.write(new, "sweep", "{}")
    keys = {"KEY": old.key, "NEW": new.trial.key}
    ended = command(line[0], store.root, *(keys[word] for word in line[1:]))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert (old.key if line != ["sync"] else "2 trials told to W&B") in ended.stdout
