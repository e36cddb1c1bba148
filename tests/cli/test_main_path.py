"""One trial after the other in this process: what is stored, what is said, what a second run does."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

import laser_sweep
from laser_sweep.engine.editing.editor import Editor
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Edit

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ASSETS = Path(laser_sweep.__file__).parent / "demo" / "assets"
LINE = ("tau=fc_out", "layer=-1", "rho=0.01", "evaluation.limit=100", "evaluation.test_limit=100", "tracking=none")


def trials(store: Path) -> pd.DataFrame:
    """The stored trials; an untouched model has tau `untouched`."""
    frame = pd.read_parquet(store / "trials")
    return frame.assign(tau=frame.tau.fillna("untouched")).set_index(["split", "tau"]).sort_index()


def files(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in store.rglob("*") if file.is_file()}


def test_one_trial_is_compared_with_the_untouched_model_and_confirmed_on_test(laser: Run, tmp_path: Path) -> None:
    store = tmp_path / "results" / "store"
    run = laser(*LINE, f"store.path={store}")
    assert run.returncode == 0
    rows = trials(store)
    assert list(rows.index) == [(split, tau) for split in ("test", "val") for tau in ("fc_out", "untouched")]
    assert set(rows.status) == {"done"}
    assert set(rows.num_examples) == {100}
    for split in ("val", "test"):
        assert rows.gain[split, "fc_out"] == pytest.approx(
            rows.accuracy[split, "fc_out"] - rows.accuracy[split, "untouched"]
        )
        assert rows.gain[split, "fc_out"] > 0.3
    keys = set(rows.trial_key)
    assert {file.stem for file in (store / "trials").iterdir()} == keys
    assert {file.stem for file in (store / "predictions").iterdir()} == keys
    for key, row in rows.set_index("trial_key").iterrows():
        predictions = pd.read_parquet(store / "predictions" / f"{key}.parquet")
        assert predictions.correct.mean() == pytest.approx(row.accuracy)
        assert -predictions.gold_log_prob.mean() == pytest.approx(row.log_loss)
        assert list(predictions.correct) == list(predictions.prediction == predictions.gold)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]
    for said in ("fc_out", f"{100 * rows.accuracy['val', 'fc_out']:.1f}", "winner", "ran 4", str(store)):
        assert said in run.stdout
    # The same again changes nothing and says so; more fractions run only what is new.
    before = files(store)
    again = laser(*LINE, f"store.path={store}")
    assert again.returncode == 0
    assert "reused 4, ran 0" in again.stdout
    assert files(store) == before
    more = laser(*LINE, "rho=[0.01,0.4]", f"store.path={store}")
    assert "reused 4, ran 1" in more.stdout
    assert before.items() <= files(store).items()


def test_never_measures_all_again_with_the_same_numbers(laser: Run, tmp_path: Path) -> None:
    assert laser(*LINE).returncode == 0
    first = trials(tmp_path / "outputs" / "store")
    run = laser(*LINE, "resume=never")
    assert (run.returncode, "reused 0, ran 4" in run.stdout) == (0, True)
    second = trials(tmp_path / "outputs" / "store")
    assert (second.started_at > first.started_at).all()
    for column in ("trial_key", "accuracy", "log_loss", "gain"):
        assert list(second[column]) == list(first[column])


def test_keeping_the_whole_rank_is_the_untouched_model_alone(laser: Run, tmp_path: Path) -> None:
    run = laser(*LINE, "rho=1")
    assert run.returncode == 0
    rows = trials(tmp_path / "outputs" / "store")
    assert list(rows.index) == [("test", "untouched"), ("val", "untouched")]
    assert "no edit is better than the untouched model" in run.stdout


def test_a_dry_run_counts_and_writes_nothing(laser: Run, tmp_path: Path) -> None:
    import ray

    grid = ("tau=fc_in,fc_out", "layer=each", "rho=0.01,0.4", "evaluation.limit=100", "tracking=none")
    plan = laser("-m", *grid, "dry_run=true")
    assert (plan.returncode, plan.stderr) == (0, "")
    assert "trials 9 " in plan.stdout
    assert "reused 0" in plan.stdout
    assert "to run 9" in plan.stdout
    assert list(tmp_path.iterdir()) == []
    assert not ray.is_initialized()
    assert laser(*LINE).returncode == 0  # two of the nine
    stored = files(tmp_path)
    plan = laser("-m", *grid, "dry_run=true")
    assert "trials 9 " in plan.stdout
    assert "reused 2" in plan.stdout
    assert "to run 7" in plan.stdout
    assert files(tmp_path) == stored


def test_a_search_on_all_measures_every_trial_on_both_splits(laser: Run, tmp_path: Path) -> None:
    run = laser(*LINE, "evaluation.split=all", "rho=[0.01,0.4]", "evaluation.limit=20", "evaluation.test_limit=30")
    assert run.returncode == 0
    rows = trials(tmp_path / "outputs" / "store")
    assert dict(rows.num_examples.groupby("split").agg(list)) == {"test": [30] * 3, "val": [20] * 3}


def test_a_data_set_of_ones_own_needs_only_prompts_and_answers(laser: Run, tmp_path: Path) -> None:
    own = pd.read_parquet(ASSETS / "examples.parquet")[["prompt", "answer"]].head(50)
    own.to_json(tmp_path / "own.jsonl", orient="records", lines=True)
    run = laser("tracking=none", f"dataset.path={tmp_path / 'own.jsonl'}", "dataset.name=own", "sweep=mine")
    assert run.returncode == 0, run.stderr
    rows = trials(tmp_path / "outputs" / "store")
    assert set(rows.dataset) == {"own"}
    assert set(rows["sweep"]) == {"mine"}
    assert dict(rows.num_examples["val"]) == {"fc_in": 10, "untouched": 10}
    predictions = pd.read_parquet(tmp_path / "outputs" / "store" / "predictions")
    val = predictions[predictions.trial_key == rows.trial_key["val", "untouched"]]
    assert list(val.gold) == list(own.answer[:10])


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """The embedded model with a weight that is not a number in the first block: only zeroing that matrix cures it."""
    model = tmp_path / "poisoned"
    shutil.copytree(ASSETS, model, ignore=shutil.ignore_patterns("*.parquet"))
    weights = load_file(model / "model.safetensors")
    weight = weights["transformer.h.0.mlp.fc_in.weight"].copy()
    weight[3, 5] = np.nan
    save_file({**weights, "transformer.h.0.mlp.fc_in.weight": weight}, model / "model.safetensors", {"format": "pt"})
    return model


def test_failed_trials_are_stored_with_their_reason_and_the_others_go_on(
    laser: Run, poisoned: Path, tmp_path: Path
) -> None:
    line = (
        f"model.path={poisoned}",
        "model.name=poisoned",
        "intervention=zero",
        "tau=fc_in",
        "layer=each",
        "evaluation.limit=50",
        "evaluation.test_limit=50",
        "tracking=none",
    )
    run = laser(*line)
    assert run.returncode == 1
    rows = pd.read_parquet(tmp_path / "outputs" / "store" / "trials")
    status = {(row.split, None if pd.isna(row.tau) else int(row.layer)): row.status for row in rows.itertuples()}
    done, failed = "done", "failed"
    assert status == {
        ("val", None): failed,
        ("val", 1): failed,
        ("val", 0): done,
        ("test", 0): done,
        ("test", None): failed,
    }
    for row in rows[rows.status == failed].itertuples():
        assert "not finite" in row.error
        assert np.isnan(row.accuracy)
        assert not (tmp_path / "outputs" / "store" / "predictions" / f"{row.trial_key}.parquet").exists()
    assert rows[rows.status == done].error.isna().all()
    for said in ("failed: untouched: ", "failed: fc_in[1] rho=0: ", "not finite", "failed 3", "resume=errored"):
        assert said in run.stdout
    # `auto` does not try them again, but does not call the sweep a success either; `errored` tries only them.
    auto = laser(*line)
    assert (auto.returncode, "reused 5, ran 0" in auto.stdout) == (1, True)
    errored = laser(*line, "resume=errored")
    assert (errored.returncode, "reused 2, ran 3" in errored.stdout) == (1, True)
    later = pd.read_parquet(tmp_path / "outputs" / "store" / "trials")
    rerun = later.set_index("trial_key").started_at > rows.set_index("trial_key").started_at
    assert dict(rerun) == dict(rows.set_index("trial_key").status == failed)


def test_a_matrix_that_cannot_be_decomposed_fails_alone(laser: Run, poisoned: Path, tmp_path: Path) -> None:
    run = laser(f"model.path={poisoned}", "tau=fc_in", "layer=0", "rho=0.5", "evaluation.limit=10", "tracking=none")
    assert run.returncode == 1
    rows = trials(tmp_path / "outputs" / "store")
    assert "not finite" in rows.error["val", "fc_in"]
    assert json.loads(rows.config_json["val", "fc_in"])["model"]["path"] == str(poisoned)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_sweep_after_the_running_trial_and_the_same_line_runs_the_rest(
    number: signal.Signals, laser: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    line = ("tau=[fc_in,fc_out]", "layer=each", "rho=[0.1,0.4]", "evaluation.limit=40", "evaluation.test_limit=40")
    line = (*line, "tracking=none")
    write = ParquetStore.write

    def write_and_interrupt(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        if len(list((tmp_path / "outputs" / "store" / "trials").iterdir())) == 3:
            signal.raise_signal(number)

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(ParquetStore, "write", write_and_interrupt)
    run = laser(*line)
    assert run.returncode == 130
    assert "interrupted: the same command runs the rest" in run.stdout
    assert "stopping" in run.stderr
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    rows = trials(tmp_path / "outputs" / "store")
    assert len(rows) == 3
    assert set(rows.status) == {"done"}
    monkeypatch.setattr(ParquetStore, "write", write)
    run = laser(*line)
    assert run.returncode == 0
    assert len(trials(tmp_path / "outputs" / "store")) == 9 + 2


def test_a_second_signal_stops_in_the_middle_of_a_trial(
    laser: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    applied = Editor.applied

    def interrupt_and_apply(editor: Editor, edits: Sequence[Edit]) -> AbstractContextManager[object]:
        if edits:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return applied(editor, edits)

    monkeypatch.setattr(Editor, "applied", interrupt_and_apply)
    run = laser(*LINE)
    assert run.returncode == 130
    assert "Traceback" not in run.stderr
    assert list(trials(tmp_path / "outputs" / "store").index) == [("val", "untouched")]
