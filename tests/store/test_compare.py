"""`compare`: what differs between trials, and the paired test of each against the first."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Answered = Callable[..., TrialResult]


def compared(command: Command, store: ParquetStore, *results: TrialResult) -> dict[str, Any]:
    ended = command("compare", store.root, *(result.trial.key for result in results), "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def said(command: Command, store: ParquetStore, *results: TrialResult) -> str:
    ended = command("compare", store.root, *(result.trial.key[:12] for result in results))
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_only_what_differs_is_listed(command: Command, store: ParquetStore, answered: Answered) -> None:
    one, other = answered(0.1, [True, False]), answered(0.2, [True, True], layer=1)
    store.write(one, "sweep", json.dumps({"seed": 0, "search": {"name": "grid"}, "rho": [0.1, 0.2]}))
    store.write(other, "sweep", json.dumps({"seed": 1, "search": {"name": "grid"}, "rho": [0.1, 0.2]}))
    found = compared(command, store, one, other)
    assert found["differences"] == {
        "layer": [3, 1],
        "rho": [0.1, 0.2],
        "edits": ["fc_in[3] laser rho=0.1 rank=17", "fc_in[1] laser rho=0.2 rank=17"],
        "config seed": [0, 1],
    }
    text = said(command, store, one, other)
    assert "config seed" in text
    assert "dataset" not in text
    assert "50.0 ± 35.4" in text  # sqrt(0.5 * 0.5 / 2)
    assert "100.0 ± 0.0" in text


def test_the_paired_test_is_that_of_counting_example_by_example(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    random = np.random.default_rng(1)
    answers = [list(random.random(60) < share) for share in (0.3, 0.6, 0.4)]
    results = [answered(rho, right) for rho, right in zip((0.1, 0.2, 0.3), answers, strict=True)]
    for result in results:
        store.write(result, "sweep", "{}")
    found = compared(command, store, *results)
    assert [pair["trial_key"] for pair in found["pairs"]] == [result.trial.key for result in results[1:]]
    for pair, right in zip(found["pairs"], answers[1:], strict=True):
        wins = losses = 0
        for one, first in zip(right, answers[0], strict=True):
            wins += one and not first
            losses += first and not one
        assert (pair["wins"], pair["losses"], pair["num_examples"]) == (wins, losses, 60)
        assert pair["gain"] == pytest.approx((wins - losses) / 60)
        assert pair["p_value"] == pytest.approx(binomtest(wins, wins + losses).pvalue)


def test_other_answers_are_counted_where_both_are_wrong_too(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    one = answered(0.1, [True, False, False, False], said=["a", "b", "c", "d"])
    other = answered(0.2, [True, True, False, False], said=["a", "x", "y", "d"])
    for result in (one, other):
        store.write(result, "sweep", "{}")
    [pair] = compared(command, store, one, other)["pairs"]
    assert (pair["disagreements"], pair["wins"], pair["losses"]) == (2, 1, 0)


def test_examples_are_matched_by_their_id_not_by_their_place(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    one = answered(0.1, [True, False, True])
    backwards = answered(0.2, [True, False, True])
    assert backwards.predictions is not None
    ids, gold = backwards.predictions.example_id[::-1], backwards.predictions.gold[::-1]
    flipped = np.array([False, True, True])  # of examples 2, 1, 0
    backwards = replace(
        backwards, predictions=replace(backwards.predictions, example_id=ids, gold=gold, correct=flipped)
    )
    for result in (one, backwards):
        store.write(result, "sweep", "{}")
    [pair] = compared(command, store, one, backwards)["pairs"]
    assert (pair["wins"], pair["losses"]) == (1, 1)


def test_a_part_of_the_examples_is_paired_and_said_to_be_one(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    whole = answered(0.1, [True] * 10)
    part = answered(0.2, [False] * 6, limit=6, first_id=7)
    for result in (whole, part):
        store.write(result, "sweep", "{}")
    [pair] = compared(command, store, whole, part)["pairs"]
    assert (pair["num_examples"], pair["only_first"], pair["only_this"], pair["losses"]) == (3, 7, 3, 3)
    line = next(line for line in said(command, store, whole, part).splitlines() if "different examples" in line)
    assert "paired on the 3 that both answer; 7 only the first, 3 only the second" in line


def test_what_cannot_be_paired_is_said_in_a_line_and_the_rest_is_compared(
    command: Command, store: ParquetStore, answered: Answered, make_failed: Callable[..., TrialResult]
) -> None:
    first, good = answered(0.1, [True, False]), answered(0.2, [True, True])
    on_test = answered(0.1, [True, False], split="test")
    apart = answered(0.3, [True, False], first_id=50)
    gone = replace(answered(0.4, [True, False]), predictions=None)
    failed = make_failed(0.5)
    elsewhere = answered(0.6, [True, False])
    elsewhere = replace(
        elsewhere,
        trial=replace(elsewhere.trial, evaluation=replace(elsewhere.trial.evaluation, dataset="shapes", revision="1")),
    )
    others = [good, on_test, apart, gone, failed, elsewhere]
    for result in (first, *others):
        store.write(result, "sweep", "{}")
    pairs = compared(command, store, first, *others)["pairs"]
    assert pairs[0]["wins"] == 1
    reasons = [pair["error"] for pair in pairs[1:]]
    assert "was asked split val" in reasons[0]
    assert "none in common" in reasons[1]
    assert "no stored predictions" in reasons[2]
    assert failed.trial.key in reasons[3]
    assert "dataset colours" in reasons[4]
    text = said(command, store, first, *others)
    assert all(reason in text for reason in reasons)
    assert sum(good.trial.key in line for line in text.splitlines()) == 2  # in both tables


def test_a_data_set_under_the_same_name_with_other_answers_is_not_paired(
    command: Command, store: ParquetStore, answered: Answered
) -> None:
    one, other = answered(0.1, [True, False]), answered(0.2, [True, False])
    assert other.predictions is not None
    other = replace(other, predictions=replace(other.predictions, gold=("red", "blue")))
    for result in (one, other):
        store.write(result, "sweep", "{}")
    [pair] = compared(command, store, one, other)["pairs"]
    assert "none in common" in pair["error"]


def test_log_loss_has_the_error_of_a_mean(command: Command, store: ParquetStore, answered: Answered) -> None:
    one, other = answered(0.1, [True] * 9), answered(0.2, [True] * 9)
    for result in (one, other):
        store.write(result, "sweep", "{}")
    assert one.predictions is not None
    losses = [-p / n for p, n in zip(one.predictions.gold_log_prob, one.predictions.gold_length, strict=True)]
    expected = np.std(losses, ddof=1) / 3
    assert compared(command, store, one, other)["trials"][0]["log_loss_stderr"] == pytest.approx(expected)
    assert f"± {expected:.4f}" in said(command, store, one, other)
