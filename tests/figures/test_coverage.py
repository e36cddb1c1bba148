"""What has been measured."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from laser_sweep.figures import coverage

from ..measured import done, failed, right, rows, trial
from .conftest import GRID


def test_each_cell_is_done_failed_or_missing(grid: pd.DataFrame, keys: dict[tuple[int, float], str]) -> None:
    [trace] = coverage(grid, "fc_in").figure.data
    for rho, states, marks, customdata in zip(trace.y, trace.z, trace.text, trace.customdata, strict=True):
        for layer, state, mark, key in zip(trace.x, states, marks, customdata, strict=True):
            cell = (int(layer), float(rho))
            wanted = (2, "✓") if cell in GRID else (1, "✗") if cell == (1, 0.5) else (0, "·")
            assert (state, mark) == wanted
            assert key == keys.get(cell)


def test_a_failed_cell_says_why_and_what_it_says_is_no_markup(grid: pd.DataFrame) -> None:
    [trace] = coverage(grid, "fc_in").figure.data
    assert trace.hovertext[2][1] == "layer 1, ρ 0.5: failed<br>CUDA &lt;b&gt;died&lt;/b&gt;"


def test_axes_have_titles_and_the_sentence_the_numbers(grid: pd.DataFrame) -> None:
    chart = coverage(grid, "fc_in")
    assert chart.figure.layout.xaxis.title.text == "layer ℓ"
    assert "ρ" in chart.figure.layout.yaxis.title.text
    assert chart.alt == "Of 9 cells of fc_in, 3 layers x 3 values of ρ: 7 done, 1 failed, 1 missing."


def test_a_failure_alone_and_nothing(tmp_path: Path, grid: pd.DataFrame) -> None:
    chart = coverage(rows(tmp_path, [failed(trial(("fc_in", 1, 0.1)))]), "fc_in")
    assert chart.alt == "Of 1 cell of fc_in, 1 layer x 1 value of ρ: 0 done, 1 failed, 0 missing."
    for table, tau in ((grid, "k_proj"), (grid.iloc[:0], "fc_in")):
        assert coverage(table, tau).alt == f"No trial edits {tau}."
        assert not coverage(table, tau).figure.data


def test_a_trial_that_ran_again_counts_as_it_ended(tmp_path: Path) -> None:
    """Two trials of one cell that differ in what no axis shows, as a model's other precision would."""
    first, second = trial(("fc_in", 1, 0.1)), trial(("fc_in", 1, 0.1), options={"seed": 1})
    table = rows(tmp_path, [failed(first), done(second, right(50), at=10)])
    table["edits"] = [[{**edit, "options": "{}"} for edit in edits] for edits in table["edits"]]
    assert "1 done, 0 failed" in coverage(table, "fc_in").alt
