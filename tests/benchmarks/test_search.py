"""The searches at a small size, and what was measured on a part of one scaled to the whole."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import TARGETS
from benchmarks.search import VARIANTS, on_the_slides, shown
from benchmarks.sweeps import Answers, Timed, further_seconds, one_rho
from laser_sweep.sweep.search.space import Intervention, Place, Space
from laser_sweep.trial import Edit, Matrix

ROOT = Path(__file__).resolve().parents[2]
EDITS = (Edit(matrix=Matrix("fc_in", 0), rho=0.1),)


@pytest.mark.slow
def test_every_search_is_measured_and_the_sides_agree() -> None:
    """That they do the benchmark itself asserts."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.search", "--small"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    figures = json.loads(last)
    assert all(math.isfinite(value) for value in figures.values())
    targets = {target.key for target in TARGETS if target.name == "search"}
    assert targets | {f"{target}_with_confirmation" for target in targets} <= set(figures)
    assert sum(value for name, value in figures.items() if name.endswith("_share")) == pytest.approx(1, abs=0.001)
    rows = [[cell.strip() for cell in line.split("│")] for line in printed if line.startswith("│")]
    assert [row[1] for row in rows] == ["LASER, the published way", "LASER, ours", *VARIANTS.values()]
    assert "86.3 (31.6..116.5)" in rows[5]


def test_each_further_trial_takes_what_one_without_its_decomposition_took() -> None:
    """Three rho of two matrices of a layer; the first also computed the states that enter it."""
    trials = [Timed(7, seconds=9.0, factor=2.0), Timed(7, seconds=5.0, factor=4.0)]
    assert further_seconds(trials, rhos=3, settings=1) == 2 * 2 * (5 - 4)


def test_each_further_number_of_blocks_is_decomposed_once_and_not_for_each_rho() -> None:
    trials = [Timed(7, seconds=3.0, factor=2.0), Timed(8, seconds=2.5, factor=0.5)]
    assert further_seconds(trials, rhos=3, settings=2) == 5 * 1 + 2 + 5 * 2 + 0.5


def test_nothing_is_missing_where_everything_ran() -> None:
    assert further_seconds([Timed(0, seconds=1.0, factor=0.1)], rhos=1, settings=1) == 0


def test_a_part_of_a_space_has_one_candidate_at_each_place() -> None:
    places = tuple(Place("fc_in", layer, (Matrix("fc_in", layer),)) for layer in range(3))
    options = {"clusters": [1, 4], "allocation": "fraction"}
    clustered = Intervention(name="clustered", method="clustered", options=options)
    space = Space(intervention=clustered, places=places, rhos=(0.1, 0.2))
    found = one_rho(space, 0.2, clusters=4).grid()
    assert [(one.layer, one.rho) for one in found] == [(0, 0.2), (1, 0.2), (2, 0.2)]
    assert {one.edits[0].options for one in found} == {(("allocation", "fraction"), ("clusters", 4))}


def test_an_answer_that_was_another_before_is_refused() -> None:
    answers = Answers()
    answers.add(EDITS, {"a": True, "b": False})
    answers.add(EDITS, {"b": False, "c": True})
    answers.add((), {"a": False})
    assert answers.twice == 1
    assert answers.accuracy(EDITS, ["a", "b", "c"]) == pytest.approx(2 / 3)
    with pytest.raises(AssertionError, match="was not before"):
        answers.add(EDITS, {"c": False})


def test_a_search_that_the_slides_do_not_have_shows_nothing() -> None:
    assert shown(on_the_slides("exhaustive")) == ""
    assert shown(on_the_slides("laser_100_eval")) == "21.7 (3.91..64.9)"
