"""Gains as cells."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from laser_sweep.figures import gain_heat_map

from ..measured import done, failed, right, rows, trial
from .conftest import GRID, UNTOUCHED, changed

LAYERS, RHOS = ("0", "1", "2"), ("0.05", "0.1", "0.5")


def traces(figure: go.Figure) -> dict[str, go.Heatmap]:
    return {trace.name: trace for trace in figure.data}


def drawn(trace: go.Heatmap) -> dict[tuple[str, str], float]:
    """The cells of a heat map that are not gaps: (x, y) -> z."""
    return {
        (x, y): float(value)
        for y, line in zip(trace.y, trace.z, strict=True)
        for x, value in zip(trace.x, line, strict=True)
        if value is not None and not math.isnan(value)
    }


def is_within_noise(wins: int, losses: int) -> bool:
    """By the differences themselves; one more or fewer right says nothing (p = 1)."""
    differences = changed(wins, losses).astype(float) - UNTOUCHED
    return abs(wins - losses) <= 1 or abs(differences.mean()) <= differences.std() / math.sqrt(len(differences))


def test_each_cell_is_filled_hollow_failed_or_missing(grid: pd.DataFrame) -> None:
    found = traces(gain_heat_map(grid, "fc_in").figure)
    gains = {(str(layer), f"{rho:g}"): float(b - c) for (layer, rho), (b, c) in GRID.items()}
    noise = {(str(layer), f"{rho:g}") for (layer, rho), table in GRID.items() if is_within_noise(*table)}
    assert noise == {("0", "0.5"), ("1", "0.05"), ("2", "0.05")}
    assert drawn(found["gain"]) == pytest.approx({cell: gain for cell, gain in gains.items() if cell not in noise})
    assert drawn(found["within one standard error"]).keys() == noise
    assert drawn(found["failed"]).keys() == {("1", "0.5")}
    assert drawn(found["not measured"]).keys() == {("2", "0.1")}
    assert drawn(found["done, without a gain"]) == {}


def test_a_hollow_cell_has_an_outline_and_no_colour(grid: pd.DataFrame) -> None:
    figure = gain_heat_map(grid, "fc_in").figure
    hollow = traces(figure)["within one standard error"]
    assert {colour for _, colour in hollow.colorscale} == {"white"}
    frames = [frame for shape in figure.layout.shapes for frame in shape.path.split("Z")[:-1]]
    corners = [np.array(re.findall(r"-?\d+\.\d+", frame), dtype=float).reshape(4, 2) for frame in frames]
    centres = [corner.mean(axis=0).round(6) for corner in corners]
    assert {(LAYERS[int(x)], RHOS[int(y)]) for x, y in centres} == drawn(hollow).keys()
    assert all(np.ptp(corner, axis=0).max() < 1 for corner in corners)


def test_frames_of_gains_and_losses_differ(tmp_path: Path) -> None:
    edits = {trial(("fc_in", layer, 0.1)): changed(10 + layer, 11 - layer) for layer in (0, 1)}
    found = [done(one, answers, UNTOUCHED) for one, answers in edits.items()]
    shapes = gain_heat_map(rows(tmp_path, [done(trial(), UNTOUCHED), *found]), "fc_in").figure.layout.shapes
    assert len({shape.line.color for shape in shapes}) == len(shapes) == 2


def test_every_cell_says_which_trial_it_is_of(grid: pd.DataFrame, keys: dict[tuple[int, float], str]) -> None:
    found = {}
    for trace in gain_heat_map(grid, "fc_in").figure.data:
        for x, y in drawn(trace):
            key = None if trace.customdata is None else trace.customdata[trace.y.index(y)][trace.x.index(x)]
            found[int(x), float(y)] = key
    assert found == {**keys, (2, 0.1): None}


def test_axes_are_in_order_and_have_titles(grid: pd.DataFrame) -> None:
    figure = gain_heat_map(grid, "fc_in").figure
    assert tuple(figure.layout.xaxis.categoryarray) == LAYERS
    assert tuple(figure.layout.yaxis.categoryarray) == RHOS
    assert figure.layout.xaxis.title.text == "layer ℓ"
    assert "ρ" in figure.layout.yaxis.title.text
    assert "points" in figure.layout.coloraxis.colorbar.title.text


def test_numbers_and_marks_can_be_read_without_colour(grid: pd.DataFrame) -> None:
    found = traces(gain_heat_map(grid, "fc_in").figure)
    assert list(found["gain"].text[1]) == ["+10.0", "+20.0", ""]
    assert list(found["failed"].text[2]) == ["", "✗", ""]
    assert list(found["not measured"].text[1]) == ["", "", "·"]


def test_colours_are_centred_at_no_gain_and_stop_at_the_largest(grid: pd.DataFrame) -> None:
    """The cell with -30 is beyond the scale, which says so."""
    axis = gain_heat_map(grid, "fc_in").figure.layout.coloraxis
    assert (axis.cmin, axis.cmid, axis.cmax) == pytest.approx((-20, 0, 20))
    assert axis.colorbar.ticktext[0] == "≤ -20.0"


def test_the_sentence_has_the_numbers(grid: pd.DataFrame) -> None:
    assert gain_heat_map(grid, "fc_in").alt == (
        "Gain of fc_in over the untouched model, which has 50.0 %: best +20.0 points at layer 1, ρ 0.1, "
        "worst -30.0 points at layer 0, ρ 0.05; 3 of 7 measured cells are within one standard error, "
        "1 cell failed, 1 of 9 were not measured."
    )


def test_values_of_a_swept_option_have_facets_in_their_order(tmp_path: Path) -> None:
    made = {
        (clusters, layer): trial(
            ("fc_in", layer, 0.1), options={"clusters": clusters, "seed": 0}, intervention="clustered"
        )
        for clusters in (16, 2, 4)
        for layer in (0, 1)
    }
    found = [done(one, changed(clusters, layer), UNTOUCHED) for (clusters, layer), one in made.items()]
    figure = gain_heat_map(rows(tmp_path, [done(trial(), UNTOUCHED), *found]), "fc_in").figure
    assert [a.text for a in figure.layout.annotations] == ["clusters=2", "clusters=4", "clusters=16"]
    for place, clusters in enumerate((2, 4, 16)):
        [gains] = [t for t in figure.data if t.name == "gain" and t.yaxis == ("y" if place == 0 else f"y{place + 1}")]
        for (_, layer), one in ((cell, one) for cell, one in made.items() if cell[0] == clusters):
            assert gains.customdata[0][layer] in (one.key, None)
            if not is_within_noise(clusters, layer):
                assert gains.z[0][layer] == pytest.approx(clusters - layer)


def test_interventions_have_facets(tmp_path: Path) -> None:
    edits = [trial(("fc_in", 0, 0.1)), trial(("fc_in", 0, 0.1), intervention="prune", options={"kind": "rows"})]
    figure = gain_heat_map(rows(tmp_path, [done(one, right(60), UNTOUCHED) for one in edits]), "fc_in").figure
    assert [a.text.split()[0] for a in figure.layout.annotations] == ["laser", "prune"]


def test_all_layers_together_stand_behind_the_last(tmp_path: Path) -> None:
    every = trial(("fc_in", 0, 0.1), ("fc_in", 1, 0.1), tau="fc_in", all_layers=True)
    table = rows(tmp_path, [done(every, right(60)), *(done(trial(("fc_in", n, 0.1)), right(60)) for n in (10, 9))])
    assert tuple(gain_heat_map(table, "fc_in").figure.layout.xaxis.categoryarray) == ("9", "10", "all")


def test_a_gain_that_was_not_stored_is_reckoned_from_the_accuracies(tmp_path: Path) -> None:
    table = rows(tmp_path, [done(trial(), right(50)), done(trial(("fc_in", 0, 0.1)), right(75))])
    assert drawn(traces(gain_heat_map(table, "fc_in").figure)["gain"]) == {("0", "0.1"): pytest.approx(25)}


def test_a_lone_trial_without_an_untouched_model(tmp_path: Path) -> None:
    chart = gain_heat_map(rows(tmp_path, [done(trial(("fc_in", 3, 0.1)), right(40))]), "fc_in")
    assert drawn(traces(chart.figure)["done, without a gain"]).keys() == {("3", "0.1")}
    assert chart.alt == "No gain of fc_in over the untouched model is known; 0 cells failed, 0 of 1 were not measured."


def test_failures_alone(tmp_path: Path) -> None:
    chart = gain_heat_map(rows(tmp_path, [done(trial(), right(40)), failed(trial(("fc_in", 3, 0.1)))]), "fc_in")
    assert drawn(traces(chart.figure)["failed"]).keys() == {("3", "0.1")}
    assert "1 cell failed" in chart.alt


def test_a_matrix_type_without_trials_is_said(grid: pd.DataFrame) -> None:
    chart = gain_heat_map(grid, "v_proj")
    assert chart.alt == "No trial edits v_proj."
    assert not chart.figure.data
    assert chart.figure.layout.xaxis.title.text
    assert "no trial edits v_proj" in chart.figure.layout.annotations[0].text
    assert gain_heat_map(grid.iloc[:0], "fc_in").alt == "No trial edits fc_in."


def test_names_from_data_are_no_markup(tmp_path: Path) -> None:
    named = trial(("<b>q</b>", 0, 0.1), options={"<i>": 1}), trial(("<b>q</b>", 0, 0.1), options={"<i>": 2})
    figure = gain_heat_map(rows(tmp_path, [done(one, right(60), UNTOUCHED) for one in named]), "<b>q</b>").figure
    assert figure.layout.title.text.startswith("&lt;b&gt;q&lt;/b&gt;: gain")
    assert figure.layout.annotations[0].text == "&lt;i&gt;=1"


def test_many_layers_have_signs_instead_of_numbers(tmp_path: Path) -> None:
    edits = [trial(("fc_in", layer, 0.1)) for layer in range(32)]
    found = [done(one, changed(20, 0) if n % 2 else changed(0, 20), UNTOUCHED) for n, one in enumerate(edits)]
    figure = gain_heat_map(rows(tmp_path, [done(trial(), UNTOUCHED), *found]), "fc_in").figure
    assert set(traces(figure)["gain"].text[0]) == {"+", "-"}
    assert np.shape(traces(figure)["gain"].z) == (1, 32)
