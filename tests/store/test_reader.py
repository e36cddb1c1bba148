"""Reading a whole store as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from laser_sweep.errors import RequestError
from laser_sweep.store.reader import read_predictions, read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Metrics, Trial, TrialResult

MakeResult = Callable[..., TrialResult]


def test_the_best_val_trial_comes_first_and_failed_ones_come_last(
    store: ParquetStore,
    make_trial: Callable[..., Trial],
    make_result: MakeResult,
    make_failed: Callable[..., TrialResult],
) -> None:
    def measured(rho: float, accuracy: float, log_loss: float, split: str = "val") -> TrialResult:
        metrics = Metrics(num_examples=5, accuracy=accuracy, accuracy_stderr=0.1, log_loss=log_loss)
        return make_result(trial=make_trial(rho, split=split), metrics=metrics)

    in_order = [
        measured(0.1, 0.75, 1.0),
        measured(0.2, 0.5, 0.5),
        measured(0.3, 0.5, 0.625),
        make_failed(0.4),
        measured(0.5, 1.0, 0.1, split="test"),
    ]
    for result in (in_order[i] for i in (3, 1, 4, 0, 2)):
        store.write(result, "sweep", "{}")
    assert read_trials(store.root)["trial_key"].tolist() == [result.trial.key for result in in_order]


def test_no_bookkeeping_columns_of_the_reader_leak_into_the_table(store: ParquetStore, make_result: MakeResult) -> None:
    store.write(make_result(), "sweep", "{}")
    frame = read_trials(store.root)
    assert not {"filename", "file_row_number"} & set(frame.columns)
    assert frame.columns[0] == "trial_key"
    assert frame.columns[-1] == "schema_version"


def test_predictions_come_in_the_order_of_the_data_set(store: ParquetStore, make_result: MakeResult) -> None:
    results = [make_result(rho, examples=30_000, seed=seed) for seed, rho in enumerate((0.1, 0.2))]
    for result in results:
        store.write(result, "sweep", "{}")
    for _ in ("in files of their own", "merged"):
        for result in results:
            frame = read_predictions(store.root, result.trial.key)
            assert result.predictions is not None
            assert frame["example_id"].tolist() == list(result.predictions.example_id)
            assert frame["gold_log_prob"].tolist() == result.predictions.gold_log_prob.tolist()
        store.compact()


def test_a_trial_without_predictions_has_no_rows(
    store: ParquetStore, make_result: MakeResult, make_failed: Callable[..., TrialResult]
) -> None:
    failed = make_failed(0.2)
    for result in (make_result(0.1), failed):
        store.write(result, "sweep", "{}")
    assert read_predictions(store.root, failed.trial.key).empty


def test_rows_of_an_older_layout_are_read_beside_new_ones(store: ParquetStore, make_result: MakeResult) -> None:
    """Same version, one column fewer: what a release before an added column wrote."""
    import pyarrow.parquet as pq

    old, new = make_result(0.1), make_result(0.2)
    for result in (old, new):
        store.write(result, "sweep", "{}")
    file = store.trials / f"{old.trial.key}.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["balanced_accuracy"]), file)
    frame = read_trials(store.root)
    assert len(frame) == 2
    assert frame["balanced_accuracy"].isna().all()


def test_a_path_with_quotes_and_wildcards_is_read(tmp_path: Path, make_result: MakeResult) -> None:
    store = ParquetStore(tmp_path / "it's a [store] *")
    result = replace(make_result(0.1), worker="here")
    store.write(result, "sweep", "{}")
    assert read_trials(store.root)["worker"].tolist() == ["here"]


def test_a_missing_store_is_named_with_its_override(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=rf"store\.path={tmp_path}/none holds no trials"):
        read_trials(tmp_path / "none")
