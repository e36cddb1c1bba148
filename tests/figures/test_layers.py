"""Accuracy and log-loss by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from laser_sweep.figures import by_layer

from ..measured import done, failed, right, rows, trial
from .conftest import GRID


def lines(figure: go.Figure) -> dict[str, dict[int, float]]:
    """By ρ: layer -> value, gaps left out."""
    return {
        trace.name: {x: float(y) for x, y in zip(trace.x, trace.y, strict=True) if not math.isnan(y)}
        for trace in figure.data
        if not trace.name.startswith("untouched")
    }


@pytest.mark.parametrize(
    ("metric", "value"), [("score", lambda layer, rho: 50 + GRID[layer, rho][0] - GRID[layer, rho][1]),
                          ("loss", lambda layer, rho: 1 + layer - rho)],
)  # fmt: skip
def test_there_is_a_line_for_each_fraction(
    grid: pd.DataFrame, metric: str, value: Callable[[int, float], float]
) -> None:
    wanted: dict[str, dict[int, float]] = {"0.05": {}, "0.1": {}, "0.5": {}}
    for layer, rho in GRID:
        wanted[f"{rho:g}"][layer] = pytest.approx(value(layer, rho))
    assert lines(by_layer(grid, metric, "fc_in").figure) == wanted


def test_a_line_breaks_where_a_layer_is_missing_or_failed(grid: pd.DataFrame) -> None:
    [half] = [trace for trace in by_layer(grid, "score", "fc_in").figure.data if trace.name == "0.5"]
    assert half.x == (0, 1, 2)
    assert math.isnan(half.y[1])
    assert not half.connectgaps


def test_points_say_which_trial_they_are_of(grid: pd.DataFrame, keys: dict[tuple[int, float], str]) -> None:
    for trace in by_layer(grid, "score", "fc_in").figure.data:
        if not trace.name.startswith("untouched"):
            for layer, y, key in zip(trace.x, trace.y, trace.customdata, strict=True):
                assert key == (None if math.isnan(y) else keys[layer, float(trace.name)])


def test_lines_differ_without_colour(grid: pd.DataFrame) -> None:
    found = [t for t in by_layer(grid, "score", "fc_in").figure.data if not t.name.startswith("untouched")]
    assert len({(trace.line.dash, trace.marker.symbol) for trace in found}) == len(found)
    assert len({trace.line.color for trace in found}) == len(found)


def test_the_untouched_model_is_a_line_with_its_standard_error(grid: pd.DataFrame) -> None:
    figure = by_layer(grid, "score", "fc_in").figure
    [line] = [trace for trace in figure.data if trace.name == "untouched"]
    [band] = [trace for trace in figure.data if trace.name == "untouched ± standard error"]
    assert set(line.y) == {50.0}
    assert set(line.customdata) == {trial().key}
    assert sorted(set(band.y)) == pytest.approx([45.0, 55.0])  # √(0.5 · 0.5 / 100)
    loss = by_layer(grid, "loss", "fc_in").figure
    assert [set(trace.y) for trace in loss.data if trace.name.startswith("untouched")] == [{1.5}]


@pytest.mark.parametrize(("metric", "unit"), [("score", "%"), ("loss", "nats")])
def test_axes_have_titles_with_units(grid: pd.DataFrame, metric: str, unit: str) -> None:
    layout = by_layer(grid, metric, "fc_in").figure.layout
    assert "layer" in layout.xaxis.title.text
    assert unit in layout.yaxis.title.text


def test_the_sentence_has_the_numbers(grid: pd.DataFrame) -> None:
    assert by_layer(grid, "score", "fc_in").alt == (
        "Accuracy by the layer of fc_in that is edited, a line for each of 3 values of ρ: best 70.0 % at layer 1, "
        "ρ 0.1; the untouched model has 50.0 %, 4 of 7 edits do better."
    )
    assert by_layer(grid, "loss", "fc_in").alt == (
        "Log-loss by the layer of fc_in that is edited, a line for each of 3 values of ρ: best 0.500 nats at layer 0, "
        "ρ 0.5; the untouched model has 1.500 nats, 3 of 7 edits do better."
    )


def test_a_broken_model_does_not_hide_the_others(tmp_path: Path) -> None:
    losses = {0: 0.5, 1: 0.6, 2: 14.0}
    table = rows(tmp_path, [done(trial(("fc_in", n, 0.1)), right(50), log_loss=loss) for n, loss in losses.items()])
    assert by_layer(table, "loss", "fc_in").figure.layout.yaxis.type == "log"
    assert by_layer(table.query("log_loss < 1"), "loss", "fc_in").figure.layout.yaxis.type == "linear"


def test_a_lone_trial_and_none(lone: pd.DataFrame, tmp_path: Path) -> None:
    chart = by_layer(lone, "score", "fc_in")
    assert lines(chart.figure) == {"0.1": {3: 40.0}}
    assert chart.alt.endswith("the untouched model was not measured.")
    for table, tau in (
        (lone, "k_proj"),
        (lone.iloc[:0], "fc_in"),
        (rows(tmp_path / "f", [failed(trial(("fc_in", 1, 0.1)))]), "fc_in"),
    ):
        empty = by_layer(table, "score", tau)
        assert empty.alt == f"No finished trial edits {tau} in one layer."
        assert not empty.figure.data


def test_edits_of_all_layers_have_no_place(tmp_path: Path) -> None:
    every = trial(("fc_in", 0, 0.1), ("fc_in", 1, 0.1), tau="fc_in", all_layers=True)
    chart = by_layer(
        rows(tmp_path, [done(every, right(60)), done(trial(("fc_in", 0, 0.1)), right(70))]), "score", "fc_in"
    )
    assert lines(chart.figure) == {"0.1": {0: 70.0}}


def test_a_log_loss_that_is_not_a_number_is_no_point(tmp_path: Path) -> None:
    table = rows(tmp_path, [done(trial(("fc_in", 0, 0.1)), right(60), log_loss=math.nan)])
    chart = by_layer(table, "loss", "fc_in")
    assert lines(chart.figure) == {"0.1": {}}
    assert chart.alt == "Log-loss by the layer of fc_in that is edited: no value is known."
