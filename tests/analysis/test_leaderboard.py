"""Ours beside what was published."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from laser_sweep.analysis.leaderboard import COLUMNS, leaderboard

from ..measured import done, failed, right, rows, trial

FEVER = {"model": "gptj", "dataset": "fever"}
A, B, C = ("fc_in", 24, 0.01), ("fc_in", 25, 0.01), ("fc_in", 26, 0.01)


@pytest.fixture
def fever(tmp_path: Path) -> pd.DataFrame:
    """B is best on val but was not measured on test; A comes next and was; C is best on test."""
    n = 1000
    return rows(
        tmp_path,
        [
            done(trial(**FEVER), right(480, n)),
            done(trial(A, **FEVER), right(570, n)),
            done(trial(B, **FEVER), right(590, n)),
            done(trial(C, **FEVER), right(520, n)),
            failed(trial(("fc_in", 0, 0.01), **FEVER)),
            done(trial(split="test", **FEVER), right(502, n), log_loss=1.25),
            done(trial(A, split="test", **FEVER), right(700, n), log_loss=1.5),
            done(trial(C, split="test", **FEVER), right(900, n)),
        ],
    )


def test_ours_is_the_edit_of_those_on_test_that_is_best_on_val(fever: pd.DataFrame) -> None:
    board = leaderboard(fever)
    assert tuple(board.columns) == COLUMNS
    assert board["which"].tolist() == ["untouched", "edited"]
    keys = [trial(split="test", **FEVER).key, trial(A, split="test", **FEVER).key]
    assert board["trial_key"].tolist() == keys
    assert board["accuracy"].tolist() == [0.502, 0.7]
    assert board["log_loss"].tolist() == [1.25, 1.5]
    assert board["num_examples"].tolist() == [1000, 1000]


def test_a_difference_is_held_against_both_errors(fever: pd.DataFrame) -> None:
    """Published: 50.2 % untouched and 56.2 % with the edit, on 10,469 examples."""
    board = leaderboard(fever)
    for row, ours, theirs in zip(board.to_dict("records"), (0.502, 0.7), (0.502, 0.562), strict=True):
        assert row["published_accuracy"] == pytest.approx(theirs)
        assert row["published_num_examples"] == 10_469
        assert row["difference"] == pytest.approx(ours - theirs)
        error = math.sqrt(ours * (1 - ours) / 1000 + theirs * (1 - theirs) / 10_469)
        assert row["difference_stderr"] == pytest.approx(error)
    assert board["agrees"].tolist() == [True, False]
    assert board["published_log_loss"].tolist() == [1.24, 1.27]
    assert board["published_edit"].tolist() == ["", "fc_in[24] ρ 0.01"]
    assert board["source"].str.len().gt(0).all()


@pytest.mark.parametrize("ours", [530, 533, 534, 540])
def test_agreement_ends_at_two_standard_errors(tmp_path: Path, ours: int) -> None:
    table = rows(tmp_path, [done(trial(split="test", **FEVER), right(ours, 1000))])
    p = ours / 1000
    agrees = abs(p - 0.502) <= 2 * math.sqrt(p * (1 - p) / 1000 + 0.502 * 0.498 / 10_469)
    assert leaderboard(table)["agrees"].iloc[0] == agrees


def test_where_no_edit_was_confirmed_the_untouched_model_stands_in_both_rows(tmp_path: Path) -> None:
    table = rows(tmp_path, [done(trial(), right(60)), done(trial(A), right(50)), done(trial(split="test"), right(55))])
    board = leaderboard(table)
    assert board["trial_key"].nunique() == 1
    assert board["accuracy"].tolist() == [0.55, 0.55]


def test_no_edit_is_picked_by_what_it_does_on_test(tmp_path: Path) -> None:
    """One that val was not asked about may be there from another command."""
    table = rows(
        tmp_path,
        [done(trial(), right(60)), done(trial(split="test"), right(55)), done(trial(A, split="test"), right(90))],
    )
    assert leaderboard(table)["accuracy"].tolist() == [0.55, 0.55]


def test_what_was_never_published_has_no_published_numbers(tmp_path: Path) -> None:
    board = leaderboard(rows(tmp_path, [done(trial(split="test"), right(55))]))
    assert board[["published_accuracy", "difference", "agrees", "source"]].isna().all(axis=None)


def test_what_was_not_measured_is_left_out_unless_it_is_asked_for(fever: pd.DataFrame) -> None:
    assert set(leaderboard(fever)["dataset"]) == {"fever"}
    everything = leaderboard(fever, everything=True)
    assert len(everything) == 48
    assert everything["accuracy"].notna().sum() == 2
    assert everything["published_accuracy"].notna().all()
    llama = everything[everything["model"].eq("llama2") & everything["dataset"].eq("fever")]
    assert np.allclose(llama["published_accuracy"], [0.593, 0.645])


def test_trials_on_val_alone_are_no_result(tmp_path: Path) -> None:
    assert leaderboard(rows(tmp_path, [done(trial(), right(60)), done(trial(A), right(50))])).empty
