"""What a matrix looked like before it was edited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from laser_sweep.figures.chart import Chart
from laser_sweep.figures.style import CATEGORIES, MUTED, styled
from laser_sweep.figures.words import plain

X_TITLE = "singular direction i, strongest first"
_VALUES, _SLOPES, _GAINS = "σᵢ", "gᵢ = dL/dσᵢ (nats)", "predicted gain (nats)"
_BAND = "rgba(213, 94, 0, 0.25)"

Curve = npt.NDArray[np.float64]


def spectrum(row: Mapping[str, Any] | pd.Series[Any]) -> Chart:
    """One row of the table `spectra`: singular values, slopes g_i ± standard error, and the predicted gain in nats.

    The predicted gain at i is what removing direction i and all weaker ones is predicted to take off the loss, to first
    order. A matrix that was probed without examples has singular values alone.
    """
    values = np.asarray(row["singular_values"], dtype=np.float64)
    matrix = f"{row['tau']}[{int(row['layer'])}]"
    title = f"{plain(matrix)}, {int(row['rows']):,} x {int(row['columns']):,}: spectrum"
    i = np.arange(1, len(values) + 1)
    sloped = row["gradient"] is not None and not np.isscalar(row["gradient"])
    figure = make_subplots(rows=3 if sloped else 1, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    # A singular value of 0 has no place on a logarithmic axis.
    figure.add_trace(
        _line("singular value", i, np.where(values > 0, values, np.nan), CATEGORIES[0], "%{y:.4g}"), row=1, col=1
    )
    figure.update_yaxes(type="log", title_text=_VALUES, exponentformat="power", row=1, col=1)
    if sloped:
        panels = ((2, "gradient", _SLOPES), (3, "predicted_gain", _GAINS))
        for place, column, y_title in panels:
            curve, stderr = _curve(row[column]), _curve(row[f"{column}_stderr"])
            figure.add_trace(_band(i, curve, stderr), row=place, col=1)
            figure.add_trace(_line(y_title, i, curve, CATEGORIES[1], "%{y:.3g} nats"), row=place, col=1)
            figure.add_hline(y=0, line={"color": MUTED, "width": 1}, row=place, col=1)
            figure.update_yaxes(title_text=y_title, exponentformat="power", row=place, col=1)
    note = "bands: ± one standard error over the examples; gᵢ > 0: the loss falls when σᵢ shrinks" if sloped else ""
    styled(figure, title, note, height=620 if sloped else 280, showlegend=False)
    figure.update_xaxes(title_text=X_TITLE, row=3 if sloped else 1, col=1)
    return Chart(figure, _alt(matrix, values, row if sloped else None))


def _line(name: str, x: npt.NDArray[np.int64], y: Curve, colour: str, number: str) -> go.Scatter:
    return go.Scatter(
        name=name, x=x, y=y, mode="lines" if len(x) > 1 else "markers", line={"color": colour, "width": 1.6},
        hovertemplate=f"i = %{{x}}: {number}<extra></extra>",
    )  # fmt: skip


def _band(x: npt.NDArray[np.int64], curve: Curve, stderr: Curve) -> go.Scatter:
    """± one standard error; those of a single example are nan and draw none."""
    known = ~np.isnan(stderr)
    x, low, high = x[known], (curve - stderr)[known], (curve + stderr)[known]
    return go.Scatter(
        name="± standard error", x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), mode="lines",
        fill="toself", fillcolor=_BAND, line={"width": 0}, hoverinfo="skip",
    )  # fmt: skip


def _curve(values: Any) -> Curve:
    return np.asarray(values, dtype=np.float64)


def _alt(matrix: str, values: Curve, row: Mapping[str, Any] | pd.Series[Any] | None) -> str:
    text = f"Spectrum of {matrix}: {len(values):,} singular values from {values[0]:.4g} down to {values[-1]:.4g}"
    if row is None:
        return f"{text}; it was probed without examples, so that no slope is known."
    gains, stderr = _curve(row["predicted_gain"]), _curve(row["predicted_gain_stderr"])
    if np.isnan(gains).all():
        return f"{text}; no slope is known."
    best = int(np.nanargmax(gains))
    error = "" if np.isnan(stderr[best]) else f" ± {stderr[best]:.2g}"
    said = (
        f"keeping {best:,} of {len(values):,} directions, {gains[best]:.3g}{error} nats" if gains[best] > 0 else "none"
    )
    num = int(row["num_examples"])
    return f"{text}; largest predicted gain, from the slopes on {num:,} example{'' if num == 1 else 's'}: {said}."
