"""`best`: whom it picks, and what it says of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Answered = Callable[..., TrialResult]

BASE = [True] * 4 + [False] * 16


def fill(store: ParquetStore, *results: TrialResult) -> None:
    for result in results:
        store.write(result, "sweep", "{}")


def asked(command: Command, store: ParquetStore) -> list[dict[str, Any]]:
    ended = command("best", store.root, "--json")
    assert ended.returncode == 0, ended.stderr
    found: list[dict[str, Any]] = json.loads(ended.stdout)
    return found


def right(count: int, of: int = 20) -> list[bool]:
    return [True] * count + [False] * (of - count)


def test_the_most_accurate_edit_wins_and_of_equals_the_one_with_the_lower_log_loss(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    losses = {0.1: (9, 0.1), 0.2: (12, 0.9), 0.3: (12, 0.4), 0.4: (12, 0.6)}
    edits = {rho: answered(rho, right(n), BASE, log_loss=loss) for rho, (n, loss) in losses.items()}
    fill(store, answered(None, BASE), *edits.values())
    [found] = asked(command, store)
    assert found["best"]["val"]["trial_key"] == edits[0.3].trial.key
    assert (found["best"]["what"], found["best"]["rho"]) == ("fc_in[3] rho=0.3", 0.3)
    assert (found["num_edits"], found["num_examples"], found["beats_untouched"]) == (4, 20, True)
    text = command("best", store.root).stdout
    assert edits[0.3].trial.key in text
    assert edits[0.2].trial.key not in text


def test_gain_and_p_are_those_of_pairs_counted_example_by_example(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    random = np.random.default_rng(0)
    base = list(random.random(50) < 0.3)
    edits = [answered(rho, list(random.random(50) < 0.3 + rho), base) for rho in (0.1, 0.3, 0.5)]
    fill(store, answered(None, base), *edits)
    [found] = asked(command, store)
    best = max(edits, key=lambda result: result.measured().accuracy)
    assert best.predictions is not None
    wins = losses = 0
    for one, other in zip(best.predictions.correct, base, strict=True):
        wins += bool(one) and not other
        losses += bool(other) and not one
    val = found["best"]["val"]
    assert val["gain"] == pytest.approx((wins - losses) / 50)
    assert val["p_value"] == pytest.approx(binomtest(wins, wins + losses).pvalue)
    differences = [int(one) - int(other) for one, other in zip(best.predictions.correct, base, strict=True)]
    assert val["gain_stderr"] == pytest.approx(np.std(differences) / np.sqrt(50))
    assert val["gain_low"] < val["gain"] < val["gain_high"]
    holm = multipletests([edit.gain_p_value for edit in edits], method="holm")[1]
    assert found["p_value_holm"] == pytest.approx(holm[edits.index(best)])


def test_the_same_edit_on_test_stands_beside_it(command: Command, store: ParquetStore, answered: Answered) -> None:
    test_base, test_right = right(10, 80), right(60, 80)
    winner, runner_up = answered(0.1, right(15), BASE), answered(0.2, right(14), BASE)
    on_test = [answered(rho, test_right, test_base, split="test") for rho in (0.1, 0.2)]
    fill(store, answered(None, BASE), winner, runner_up, *on_test, answered(None, test_base, split="test"))
    [found] = asked(command, store)
    assert found["best"]["test"]["trial_key"] == on_test[0].trial.key
    assert found["best"]["test"]["gain"] == pytest.approx(50 / 80)
    assert found["untouched"]["test"]["accuracy"] == pytest.approx(10 / 80)
    lines = [line for line in command("best", store.root).stdout.splitlines() if "laser fc_in[3] rho=0.1" in line]
    assert [line.split()[0] for line in lines] == ["val", "test"]
    assert winner.trial.key in lines[0]
    assert on_test[0].trial.key in lines[1]
    assert "75.0 ± 4.8" in lines[1]
    assert "+62.5" in lines[1]


def test_a_winner_that_was_not_measured_on_test_is_said_to_be_so(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    fill(store, answered(None, BASE), answered(0.1, right(15), BASE))
    [found] = asked(command, store)
    assert found["best"]["test"] is None
    assert "was not measured on test" in command("best", store.root).stdout


def test_trials_on_fewer_examples_do_not_win(command: Command, store: ParquetStore, answered: Answered) -> None:
    """A search measures many edits on a few examples first; all right there means little."""
    lucky = answered(0.1, right(4, 4), right(1, 4), limit=4)
    whole = answered(0.2, right(9), BASE)
    fill(store, answered(None, BASE), answered(None, right(1, 4), limit=4), lucky, whole)
    [found] = asked(command, store)
    assert found["best"]["val"]["trial_key"] == whole.trial.key
    assert (found["limit"], found["num_edits"]) == (None, 1)


def test_where_only_a_part_was_searched_it_decides(command: Command, store: ParquetStore, answered: Answered) -> None:
    edit = answered(0.1, right(4, 4), right(1, 4), limit=4)
    fill(store, answered(None, BASE), answered(None, right(1, 4), limit=4), edit)
    [found] = asked(command, store)
    assert (found["best"]["val"]["trial_key"], found["limit"]) == (edit.trial.key, 4)


@pytest.mark.parametrize("best_right", [3, 4])
def test_an_untouched_model_that_is_as_good_wins(
    command: Command, store: ParquetStore, answered: Answered, best_right: int
) -> None:
    edit = answered(0.1, right(best_right), BASE)
    fill(store, answered(None, BASE), edit)
    [found] = asked(command, store)
    assert found["beats_untouched"] is False
    assert found["best"]["val"]["trial_key"] == edit.trial.key
    assert "no edit is better than the untouched model" in command("best", store.root).stdout


def test_models_data_sets_and_dtypes_are_kept_apart(command: Command, store: ParquetStore, answered: Answered) -> None:
    def of(result: TrialResult, **changes: str) -> TrialResult:
        """The same answers from another model, or on another data set."""
        trial = result.trial
        model = {name: changes[name] for name in ("name", "dtype", "revision") if name in changes}
        evaluation = {"dataset": changes["dataset"], "revision": "other"} if "dataset" in changes else {}
        changed = replace(
            trial, model=replace(trial.model, **model), evaluation=replace(trial.evaluation, **evaluation)
        )
        return replace(result, trial=changed)

    results = [answered(None, BASE), answered(0.1, right(9), BASE)]
    others = [{"name": "big", "revision": "ff"}, {"dtype": "bfloat16"}, {"dataset": "shapes"}, {"revision": "newer"}]
    fill(store, *results, *(of(result, **changes) for changes in others for result in results))
    found = asked(command, store)
    names = ("model", "model_revision", "dtype", "dataset")
    assert {tuple(one[name] for name in names) for one in found} == {
        ("tiny", "0123abcd", "float32", "colours"),
        ("big", "ff", "float32", "colours"),
        ("tiny", "0123abcd", "bfloat16", "colours"),
        ("tiny", "0123abcd", "float32", "shapes"),
        ("tiny", "newer", "float32", "colours"),
    }
    assert all(one["best"]["val"]["gain"] == pytest.approx(0.25) for one in found)


def test_failed_trials_do_not_count(
    command: Command, store: ParquetStore, answered: Answered, make_failed: Callable[..., TrialResult]
) -> None:
    fill(store, answered(None, BASE), answered(0.1, right(9), BASE), make_failed(0.9))
    assert asked(command, store)[0]["num_edits"] == 1
    alone = ParquetStore(store.root.with_name("failed"))
    fill(alone, make_failed(0.9))
    assert asked(command, alone) == []
    assert "no trial on val has finished" in command("best", alone.root).stdout


def test_without_predictions_the_stored_gain_is_shown(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    edit = answered(0.1, right(9), BASE)
    fill(store, *(replace(result, predictions=None) for result in (answered(None, BASE), edit)))
    [found] = asked(command, store)
    val = found["best"]["val"]
    assert (val["gain"], val["p_value"]) == (pytest.approx(0.25), pytest.approx(edit.gain_p_value))
    assert val["gain_stderr"] is None
