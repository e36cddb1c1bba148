"""Spectra and slopes of one matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from laser_sweep.figures import spectrum

VALUES = np.array([4.0, 2.0, 1.0, 0.5])
SLOPES = np.array([0.1, -0.3, 0.2, 0.4])


def row(**changes: Any) -> dict[str, Any]:
    gains = np.cumsum((VALUES * SLOPES)[::-1])[::-1]
    values = {"tau": "fc_in", "layer": 3, "rows": 6, "columns": 4, "singular_values": VALUES, "num_examples": 50.0}
    values |= {"gradient": SLOPES, "gradient_stderr": SLOPES**2, "predicted_gain": gains}
    return {**values, "predicted_gain_stderr": np.full(4, 0.05), **changes}


def lines(figure: go.Figure) -> list[tuple[list[float], list[float]]]:
    """x and y of all curves that are not bands."""
    return [(list(t.x), list(t.y)) for t in figure.data if t.name != "± standard error"]


def test_singular_values_slopes_and_predicted_gains_have_a_panel_each() -> None:
    found = lines(spectrum(row()).figure)
    assert [x for x, _ in found] == [[1, 2, 3, 4]] * 3
    wanted = [sum(VALUES[j] * SLOPES[j] for j in range(i, 4)) for i in range(4)]
    for (_, y), curve in zip(found, (VALUES, SLOPES, wanted), strict=True):
        assert y == pytest.approx(list(curve))


def test_bands_are_one_standard_error_wide() -> None:
    slopes, gains = (t for t in spectrum(row()).figure.data if t.name == "± standard error")
    upper, lower = np.array(slopes.y[:4]), np.array(slopes.y[4:])[::-1]
    np.testing.assert_allclose(upper, SLOPES + SLOPES**2)
    np.testing.assert_allclose(lower, SLOPES - SLOPES**2)
    np.testing.assert_allclose(np.array(gains.y[:4]) - np.array(gains.y[4:])[::-1], 0.1)


def test_axes_have_titles_with_units() -> None:
    layout = spectrum(row()).figure.layout
    assert [layout[name].title.text for name in ("yaxis", "yaxis2", "yaxis3")] == [
        "σᵢ", "gᵢ = dL/dσᵢ (nats)", "predicted gain (nats)",
    ]  # fmt: skip
    assert layout.xaxis3.title.text == "singular direction i, strongest first"


def test_the_sentence_names_the_rank_with_the_largest_predicted_gain() -> None:
    """Removing directions 3 and 4 is predicted to gain 1 · 0.2 + 0.5 · 0.4."""
    assert spectrum(row()).alt == (
        "Spectrum of fc_in[3]: 4 singular values from 4 down to 0.5; largest predicted gain, from the slopes on "
        "50 examples: keeping 2 of 4 directions, 0.4 ± 0.05 nats."
    )
    none = spectrum(row(predicted_gain=np.array([-3.0, -2.0, -1.0, -0.5])))
    assert none.alt.endswith("from the slopes on 50 examples: none.")


def test_a_matrix_that_was_probed_without_examples_has_singular_values_alone() -> None:
    for missing in (None, math.nan):
        chart = spectrum(row(gradient=missing, predicted_gain=missing, num_examples=math.nan))
        assert len(lines(chart.figure)) == 1
        assert "no slope is known" in chart.alt
        assert chart.figure.layout.xaxis.title.text


def test_the_errors_of_a_single_example_draw_no_band() -> None:
    nothing = np.full(4, np.nan)
    chart = spectrum(row(gradient_stderr=nothing, predicted_gain_stderr=nothing, num_examples=1))
    assert all(len(t.x) == 0 for t in chart.figure.data if t.name == "± standard error")
    assert "on 1 example: keeping 2 of 4 directions, 0.4 nats." in chart.alt


def test_a_singular_value_of_zero_has_no_place_on_a_logarithmic_axis() -> None:
    figure = spectrum(row(singular_values=np.array([4.0, 2.0, 1.0, 0.0]))).figure
    assert figure.layout.yaxis.type == "log"
    assert math.isnan(figure.data[0].y[3])


def test_a_matrix_with_one_direction_is_a_point() -> None:
    one = np.array([1.0])
    chart = spectrum(
        row(singular_values=one, gradient=one, gradient_stderr=one, predicted_gain=one, predicted_gain_stderr=one)
    )
    assert all(t.mode == "markers" for t in chart.figure.data if t.name != "± standard error")
