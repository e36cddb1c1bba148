"""Trials of episodes: what is stored of them, and what the commands say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import sem, ttest_rel

from laser_sweep.store.reader import read_predictions, read_trials
from laser_sweep.store.stored import stored_results

from ..measured import done, played, right, trial, written

RANDOM = np.random.default_rng(0)
BEFORE = RANDOM.normal(-95, 20, 30)
AFTER = BEFORE + RANDOM.normal(6, 5, 30)
ERRORS = RANDOM.uniform(0.01, 0.05, 30)
UNTOUCHED, EDITED, WORSE = trial(dataset="rollouts"), trial(("fc_in", 0, 0.1), dataset="rollouts"), trial(
    ("fc_out", 1, 0.1), dataset="rollouts"
)  # fmt: skip

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    results = (
        played(UNTOUCHED, BEFORE, errors=ERRORS, solved_at=-100),
        played(EDITED, AFTER, BEFORE, errors=ERRORS / 2, solved_at=-100, at=1.0),
        played(WORSE, BEFORE - 50, BEFORE, errors=ERRORS * 2, solved_at=-100, at=2.0),
    )
    return written(tmp_path / "store", results).root


def test_a_row_of_episodes_has_returns_and_no_accuracy(root: Path) -> None:
    rows = read_trials(root)
    assert rows["trial_key"].tolist() == [EDITED.key, UNTOUCHED.key, WORSE.key]  # best return first
    best = rows.iloc[0]
    assert best["mean_return"] == pytest.approx(AFTER.mean())
    assert best["return_stderr"] == pytest.approx(sem(AFTER))
    assert best["action_error"] == pytest.approx(ERRORS.mean() / 2)
    assert best["success_rate"] == pytest.approx((AFTER >= -100).mean())
    assert best["gain"] == pytest.approx((AFTER - BEFORE).mean())
    assert best["gain_p_value"] == pytest.approx(ttest_rel(AFTER, BEFORE).pvalue)
    assert rows[["accuracy", "accuracy_stderr", "log_loss"]].isna().all(axis=None)


def test_episodes_are_kept_one_by_one(root: Path) -> None:
    rows = read_predictions(root, EDITED.key)
    assert rows["example_id"].tolist() == [str(seed) for seed in range(30)]
    assert rows["episode_return"].tolist() == AFTER.tolist()
    assert rows["episode_length"].tolist() == list(range(10, 40))
    assert rows["success"].tolist() == (AFTER >= -100).tolist()
    assert rows["action_error"].tolist() == (ERRORS / 2).tolist()
    assert set(rows["gold"]) == {"-70"}
    assert rows["prediction"].tolist() == [f"{value:g}" for value in AFTER]
    assert rows[["correct", "gold_log_prob", "gold_rank", "f1", "group"]].isna().all(axis=None)


def test_a_store_gives_back_what_it_was_given(root: Path) -> None:
    store = written(root, ())
    found = store.find([EDITED])[EDITED.key]
    assert found.measured() == played(EDITED, AFTER, errors=ERRORS / 2, solved_at=-100).measured()
    scores = store.scores(EDITED.key)
    assert scores is not None
    assert scores.scores.tolist() == AFTER.tolist()
    assert scores.losses.tolist() == (ERRORS / 2).tolist()
    assert [one.result.measured().score for one in stored_results(root)] == pytest.approx(
        [BEFORE.mean(), AFTER.mean(), (BEFORE - 50).mean()]
    )


def test_without_recorded_actions_losses_are_unknown(tmp_path: Path) -> None:
    store = written(tmp_path / "bare", [played(UNTOUCHED, BEFORE)])
    scores = store.scores(UNTOUCHED.key)
    assert scores is not None
    assert np.isnan(scores.losses).all()
    found = store.find([UNTOUCHED])[UNTOUCHED.key].measured()
    assert (found.action_error, found.success_rate, found.loss) == (None, None, None)


def test_answers_and_episodes_stand_in_one_store_and_merge(tmp_path: Path) -> None:
    asked = trial()
    store = written(tmp_path / "both", [played(UNTOUCHED, BEFORE), done(asked, right(40))])
    assert store.compact() == 2
    assert store.scores(UNTOUCHED.key).scores.tolist() == BEFORE.tolist()  # type: ignore[union-attr]
    assert store.scores(asked.key).scores.tolist() == right(40).tolist()  # type: ignore[union-attr]
    frame = pd.read_parquet(store.predictions)
    assert frame.groupby("trial_key")["episode_return"].count().to_dict() == {UNTOUCHED.key: 30, asked.key: 0}


def test_best_shows_returns(root: Path, command: Command) -> None:
    text = command("best", root).stdout
    assert "return" in text
    assert "action error" in text
    assert "accuracy" not in text
    assert "log-loss" not in text
    assert f"{AFTER.mean():.2f} ± {sem(AFTER):.2f}" in text
    paired = ttest_rel(AFTER, BEFORE)
    assert f"+{(AFTER - BEFORE).mean():.2f} ± {sem(AFTER - BEFORE):.2f}" in text
    [found] = json.loads(command("best", root, "--json").stdout)
    val = found["best"]["val"]
    assert val["mean_return"] == pytest.approx(AFTER.mean())
    assert (val["gain_low"], val["gain_high"]) == pytest.approx(tuple(paired.confidence_interval(0.95)))


def test_show_lists_returns_and_shows_a_trial_with_its_test(root: Path, command: Command) -> None:
    text = command("show", root).stdout
    assert "return" in text
    assert "accuracy" not in text
    assert "nan" not in text.lower()
    text = command("show", root, EDITED.key).stdout
    assert "p (paired t-test)" in text
    assert f"{100 * (AFTER >= -100).mean():.1f}" in text
    assert "accuracy" not in text


def test_show_gives_answers_and_episodes_a_column_each(tmp_path: Path, command: Command) -> None:
    store = written(tmp_path / "both", [played(UNTOUCHED, BEFORE), done(trial(), right(40))])
    text = command("show", store.root).stdout
    assert "accuracy %" in text
    assert f"{BEFORE.mean():.2f}" in text
    assert "40.0" in text


def test_compare_pairs_episodes_of_the_same_seed(root: Path, command: Command) -> None:
    text = command("compare", root, UNTOUCHED.key, EDITED.key).stdout
    interval = ttest_rel(AFTER, BEFORE).confidence_interval(0.95)
    assert f"{interval.low:+.2f} to {interval.high:+.2f}" in text
    assert "more here" in text
    assert "right only" not in text
    found = json.loads(command("compare", root, UNTOUCHED.key, EDITED.key, "--json").stdout)
    assert found["pairs"][0]["p_value"] == pytest.approx(ttest_rel(AFTER, BEFORE).pvalue)
    assert found["pairs"][0]["wins"] == int((AFTER > BEFORE).sum())
    assert found["trials"][1]["action_error_stderr"] == pytest.approx(sem(ERRORS / 2))


def test_the_analysis_of_answers_refuses_episodes(root: Path) -> None:
    line = [sys.executable, "-m", "laser_sweep.analysis", "flips", EDITED.key, "--store", str(root)]
    ran = subprocess.run(line, capture_output=True, text=True, timeout=200)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        f"laser_sweep.analysis: trial {EDITED.key} played episodes and answered nothing; hold it against others with "
        "python -m laser_sweep.store compare\n"
    )
