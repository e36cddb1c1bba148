"""Which answers an edit changed."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from laser_sweep.figures.chart import Chart
from laser_sweep.figures.style import CATEGORIES, MUTED, nothing, styled
from laser_sweep.figures.words import count, percent, points

_LOOKS = {
    "right in both": ("#9aa5b1", ""),
    "flipped to right": (CATEGORIES[0], "/"),
    "flipped to wrong": (CATEGORIES[1], "\\"),
    "wrong in both": ("#cbd2d9", ""),
}
"""Colour and hatching, so that what flipped stands out without colour too."""


def flips(counts: Mapping[str, int]) -> Chart:
    """How many examples flipped to right or to wrong, and how many stayed right or wrong; as `analysis.flips` counts.

    `counts` has a number for each of `analysis.flips.OUTCOMES`.
    """
    values = {name: int(counts[name]) for name in _LOOKS}
    total = sum(values.values())
    title, x_title, y_title = "answers before and after the edit", "examples", "answer"
    if not total:
        return Chart(nothing(title, "no examples", x_title, y_title), "No examples were answered by both models.")
    names = list(reversed(_LOOKS))  # the first bar is drawn lowest
    figure = go.Figure(
        go.Bar(
            orientation="h",
            y=names,
            x=[values[name] for name in names],
            text=[f"{values[name]:,} ({percent(values[name] / total)})" for name in names],
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": [_LOOKS[name][0] for name in names],
                "pattern": {"shape": [_LOOKS[name][1] for name in names], "fgcolor": "white", "size": 6},
            },
            hovertemplate="%{y}: %{text}<extra></extra>",
        )
    )
    styled(figure, title, height=260, xaxis_title=x_title, yaxis_title=y_title)
    figure.update_xaxes(range=[0, 1.3 * max(values.values())])  # room for what stands beside the bars
    right, wrong = values["flipped to right"], values["flipped to wrong"]
    return Chart(
        figure,
        f"Of {count(total, 'example')} the edit flips {right:,} to right and {wrong:,} to wrong, "
        f"{points((right - wrong) / total)}; before and after, {values['right in both']:,} are right and "
        f"{values['wrong in both']:,} wrong.",
    )


def gain_by_frequency(table: pd.DataFrame) -> Chart:
    """Gain in points, with its standard error, against how often a fact stands in the training text.

    `table` has a row for each bin: `low` and `high` frequency, `count` examples, `gain` and `stderr` in -1..1.
    """
    title, x_title, y_title = "gain by frequency", "frequency in the training text, least to most", "gain (points)"
    known = table[table["count"].gt(0) & table["gain"].notna()].sort_values("low")
    if known.empty:
        return Chart(nothing(title, "no example has a frequency", x_title, y_title), "No example has a frequency.")
    # Bins are as many examples, not as much frequency, so that they stand side by side and not to scale.
    bins = [_range(low, high) for low, high in zip(known["low"], known["high"], strict=True)]
    figure = go.Figure(
        go.Bar(
            x=[f"{name}<br>n = {number:,}" for name, number in zip(bins, known["count"], strict=True)],
            y=100 * known["gain"].to_numpy(),
            error_y={"array": 100 * known["stderr"].to_numpy(), "color": MUTED, "thickness": 1.5},
            marker_color=[CATEGORIES[0] if gain >= 0 else CATEGORIES[1] for gain in known["gain"]],
            hovertemplate="frequency %{x}<br>gain %{y:+.1f} points<extra></extra>",
        )
    )
    styled(figure, title, "bars: ± one standard error", height=360, xaxis_title=x_title, yaxis_title=y_title)
    figure.update_xaxes(type="category")
    figure.update_yaxes(zeroline=True, zerolinecolor=MUTED)
    rare, common = known.iloc[0], known.iloc[-1]
    only = f"at frequency {bins[0]} {points(rare['gain'])} ({count(int(rare['count']), 'example')})"
    if len(known) == 1:
        return Chart(figure, f"Gain by frequency: {only}.")
    return Chart(
        figure,
        f"Gain by frequency, {len(known)} bins: {only}, at {bins[-1]} {points(common['gain'])} "
        f"({count(int(common['count']), 'example')}).",
    )


def _range(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
