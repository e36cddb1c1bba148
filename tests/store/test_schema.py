"""The columns on disk, as people's own notebooks see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Footprint, Trial, TrialResult

TRIAL_COLUMNS = [
    "trial_key", "sweep", "model", "model_revision", "dtype", "dataset", "split", "limit", "num_examples",
    "num_skipped", "intervention", "tau", "layer", "rho", "edits", "parameters", "status", "error", "accuracy",
    "accuracy_stderr", "log_loss",
    "majority_accuracy", "balanced_accuracy", "top1_accuracy", "top5_accuracy", "top10_accuracy", "f1",
    "group_accuracy", "prediction_counts", "mean_return", "return_stderr", "action_error", "success_rate", "gain",
    "gain_p_value", "attempt", "worker", "device", "seconds_factor",
    "seconds_edit", "seconds_eval", "started_at", "finished_at", "config_json", "schema_version",
]  # fmt: skip
PREDICTION_COLUMNS = [
    "trial_key", "example_id", "gold", "prediction", "correct", "gold_log_prob", "gold_length", "gold_rank",
    "text_rank", "f1", "group", "subject", "relation", "frequency", "episode_return", "episode_length", "success",
    "action_error",
]  # fmt: skip


def test_a_file_of_trials_has_the_agreed_columns_in_the_agreed_order(
    store: ParquetStore, make_result: Callable[..., TrialResult]
) -> None:
    result = make_result()
    store.write(result, "sweep", "{}")
    assert pq.read_schema(store.trials / f"{result.trial.key}.parquet").names == TRIAL_COLUMNS


def test_a_file_of_predictions_has_the_agreed_columns_in_the_agreed_order(
    store: ParquetStore, make_result: Callable[..., TrialResult]
) -> None:
    result = make_result()
    store.write(result, "sweep", "{}")
    assert pq.read_schema(store.predictions / f"{result.trial.key}.parquet").names == PREDICTION_COLUMNS


def test_an_edit_is_a_struct_of_matrix_method_and_footprint(
    store: ParquetStore, make_result: Callable[..., TrialResult]
) -> None:
    result = make_result()
    store.write(result, "sweep", "{}")
    edits = pq.read_schema(store.trials / f"{result.trial.key}.parquet").field("edits").type
    assert pa.types.is_list(edits)
    assert [field.name for field in edits.value_type] == [
        "tau", "layer", "rho", "method", "rank", "options", "parameters", "row_clusters",
    ]  # fmt: skip


def test_every_file_says_which_version_of_the_schema_it_has(
    store: ParquetStore, make_result: Callable[..., TrialResult]
) -> None:
    result = make_result()
    store.write(result, "sweep", "{}")
    for directory in (store.trials, store.predictions):
        metadata = pq.read_schema(directory / f"{result.trial.key}.parquet").metadata
        assert metadata[b"laser_sweep_schema"] == b"4"
    assert pd.read_parquet(store.trials)["schema_version"].tolist() == [4]


def test_nulls_do_not_change_the_types_of_columns(
    store: ParquetStore,
    make_result: Callable[..., TrialResult],
    make_failed: Callable[..., TrialResult],
) -> None:
    done, untouched, failed = make_result(0.1, gain=0.5, gain_p_value=0.1), make_result(None), make_failed(0.2)
    for result in (done, untouched, failed):
        store.write(result, "sweep", "{}")
    schemas = [pq.read_schema(store.trials / f"{r.trial.key}.parquet") for r in (done, untouched, failed)]
    assert schemas[0].equals(schemas[1])
    assert schemas[0].equals(schemas[2])


def test_pandas_reads_the_directory_of_done_failed_and_untouched_trials(
    store: ParquetStore,
    make_result: Callable[..., TrialResult],
    make_failed: Callable[..., TrialResult],
) -> None:
    done, untouched, failed = make_result(0.1, gain=0.5, gain_p_value=0.1), make_result(None), make_failed(0.2)
    limited = replace(done.trial, evaluation=replace(done.trial.evaluation, limit=50, seed=0))
    done = replace(done, trial=limited)
    for result in (done, untouched, failed):
        store.write(result, "colours-sweep", '{"rho": [0.1]}')
    frame = pd.read_parquet(store.root / "trials").set_index("trial_key")
    assert len(frame) == 3
    row = frame.loc[done.trial.key]
    assert (row["sweep"], row["model"], row["dtype"], row["dataset"], row["split"]) == (
        "colours-sweep", "tiny", "float32", "colours", "val",
    )  # fmt: skip
    assert (row["intervention"], row["tau"], row["layer"], row["rho"]) == ("laser", "fc_in", 3, 0.1)
    assert list(row["edits"]) == [
        {"tau": "fc_in", "layer": 3, "rho": 0.1, "method": "laser", "rank": 17}
        | {"options": "{}", "parameters": 4321, "row_clusters": None}
    ]
    assert (row["parameters"], row["limit"]) == (4321, 50)
    assert (row["status"], row["gain"], row["gain_p_value"], row["config_json"]) == ("done", 0.5, 0.1, '{"rho": [0.1]}')
    assert (row["seconds_factor"], row["seconds_edit"], row["seconds_eval"]) == (0.5, 0.25, 2.0)
    assert row["started_at"] == pd.Timestamp("2023-11-14 22:13:20", tz="UTC")
    assert row["finished_at"] == pd.Timestamp("2023-11-14 22:13:22.750", tz="UTC")
    assert frame.loc[untouched.trial.key][["tau", "layer", "rho", "gain", "limit", "parameters"]].isna().all()
    assert len(frame.loc[untouched.trial.key]["edits"]) == 0
    assert frame.loc[failed.trial.key][["status", "error"]].tolist() == ["failed", "it broke"]
    assert frame.loc[failed.trial.key][["accuracy", "log_loss", "num_examples", "parameters"]].isna().all()


def test_an_edit_keeps_its_options_and_the_blocks_of_its_rows(
    store: ParquetStore, make_trial: Callable[..., Trial], make_result: Callable[..., TrialResult]
) -> None:
    trial = make_trial(0.1)
    options = (("clusters", 3), ("partition", "subspaces"), ("seed", 7))
    edits = (replace(trial.edits[0], method="clustered", options=options), *make_trial(0.2, layer=1).edits)
    row_clusters = np.array([2, 0, 1, 2], dtype=np.uint16)
    made = (Footprint(rank=5, parameters=40, row_clusters=row_clusters), Footprint(rank=1, parameters=2))
    store.write(make_result(trial=replace(trial, edits=edits), footprints=made), "sweep", "{}")
    [row] = pq.read_table(store.trials).to_pylist()
    clustered, plain = row["edits"]
    assert clustered["options"] == '{"clusters":3,"partition":"subspaces","seed":7}'
    assert (clustered["row_clusters"], plain["options"], plain["row_clusters"]) == ([2, 0, 1, 2], "{}", None)
    assert (clustered["parameters"], plain["parameters"], row["parameters"]) == (40, 2, 42)


def test_the_parameters_of_a_trial_are_unknown_where_those_of_one_edit_are(
    store: ParquetStore, make_trial: Callable[..., Trial], make_result: Callable[..., TrialResult]
) -> None:
    trial = replace(make_trial(0.1), edits=make_trial(0.1).edits + make_trial(0.2, layer=1).edits)
    store.write(make_result(trial=trial, footprints=(Footprint(rank=5, parameters=40), Footprint())), "sweep", "{}")
    [row] = pq.read_table(store.trials).to_pylist()
    assert row["parameters"] is None
    assert [edit["parameters"] for edit in row["edits"]] == [40, None]


def test_predictions_hold_what_the_model_said_to_each_example(
    store: ParquetStore, make_result: Callable[..., TrialResult]
) -> None:
    result = make_result(0.1, examples=6)
    store.write(result, "sweep", "{}")
    frame = pd.read_parquet(store.predictions / f"{result.trial.key}.parquet")
    given = result.predictions
    assert given is not None
    assert frame["trial_key"].tolist() == [result.trial.key] * 6
    assert tuple(frame["example_id"]) == given.example_id
    assert tuple(frame["gold"]) == given.gold
    assert tuple(frame["prediction"]) == given.prediction
    assert frame["correct"].tolist() == given.correct.tolist()
    assert frame["gold_log_prob"].tolist() == given.gold_log_prob.tolist()
    assert frame["gold_rank"].tolist() == given.gold_rank.tolist()
    assert [None if pd.isna(group) else group for group in frame["group"]] == list(given.group)
    assert [None if pd.isna(value) else value for value in frame["frequency"]] == list(given.frequency)


def test_a_failed_trial_has_no_file_of_predictions(
    store: ParquetStore, make_failed: Callable[..., TrialResult]
) -> None:
    failed = make_failed()
    store.write(failed, "sweep", "{}")
    assert (store.trials / f"{failed.trial.key}.parquet").exists()
    assert not store.predictions.exists()
