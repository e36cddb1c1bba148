"""What an edit changed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from laser_sweep.analysis.flips import OUTCOMES
from laser_sweep.figures import flips, gain_by_frequency

COUNTS = {"flipped to right": 30, "flipped to wrong": 5, "right in both": 10, "wrong in both": 3}


def test_there_is_a_bar_for_each_outcome() -> None:
    assert set(COUNTS) == set(OUTCOMES)
    [bars] = flips(COUNTS).figure.data
    assert dict(zip(bars.y, bars.x, strict=True)) == COUNTS
    assert dict(zip(bars.y, bars.text, strict=True))["flipped to right"] == "30 (62.5 %)"


def test_flips_stand_out_without_colour() -> None:
    [bars] = flips(COUNTS).figure.data
    hatched = {name for name, shape in zip(bars.y, bars.marker.pattern.shape, strict=True) if shape}
    assert hatched == {"flipped to right", "flipped to wrong"}


def test_the_sentence_on_flips_has_the_numbers() -> None:
    chart = flips(COUNTS)
    assert chart.alt == (
        "Of 48 examples the edit flips 30 to right and 5 to wrong, +52.1 points; "
        "before and after, 10 are right and 3 wrong."
    )
    assert chart.figure.layout.xaxis.title.text == "examples"
    assert chart.figure.layout.yaxis.title.text


def test_no_examples() -> None:
    assert flips(dict.fromkeys(OUTCOMES, 0)).alt == "No examples were answered by both models."


TABLE = pd.DataFrame(
    {"low": [20.0, 0.0, 5.0], "high": [99.0, 4.0, 5.0], "count": [40, 60, 50], "gain": [-0.05, 0.2, 0.1]}
    | {"stderr": [0.03, 0.05, 0.04]}
)


def test_gains_stand_by_rising_frequency_with_their_errors() -> None:
    chart = gain_by_frequency(TABLE)
    [bars] = chart.figure.data
    assert list(bars.x) == ["0 to 4<br>n = 60", "5<br>n = 50", "20 to 99<br>n = 40"]
    assert list(bars.y) == pytest.approx([20, 10, -5])
    assert list(bars.error_y.array) == pytest.approx([5, 4, 3])
    assert chart.alt == (
        "Gain by frequency, 3 bins: at frequency 0 to 4 +20.0 points (60 examples), "
        "at 20 to 99 -5.0 points (40 examples)."
    )
    assert chart.figure.layout.yaxis.title.text == "gain (points)"
    assert "frequency" in chart.figure.layout.xaxis.title.text


def test_one_bin_empty_bins_and_none() -> None:
    one = gain_by_frequency(TABLE.assign(gain=[np.nan, 0.2, 0.1], count=[1, 60, 0]))
    assert one.alt == "Gain by frequency: at frequency 0 to 4 +20.0 points (60 examples)."
    assert gain_by_frequency(TABLE.iloc[:0]).alt == "No example has a frequency."
