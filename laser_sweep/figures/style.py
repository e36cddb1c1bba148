"""How all figures look: colours that colour-blind readers tell apart, one font, no ornament."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from laser_sweep.figures.words import plain

INK = "#1f2933"
MUTED = "#6b7280"
GRID = "#e5e7eb"
EMPTY = "#eef0f2"  # behind cells, so that white is a value and not a hole
UNTOUCHED = "#111111"
BAND = "rgba(17, 17, 17, 0.12)"

DIVERGING = ["#7f3b08", "#c2670a", "#f1a340", "#fee0b6", "#f7f7f7", "#d1e5f0", "#67a9cf", "#2166ac", "#053061"]
"""Orange for worse, blue for better: they differ for every kind of colour blindness; in grey, the cells have signs."""

CATEGORIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6d1f", "#5b4b8a"]
"""Okabe & Ito (2008), without the yellow that is hard to see on white, and two more."""

SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "pentagon", "star-diamond"]
DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]

_PAGE = 850  # pixels of a page of A4, without titles and axes
_BETWEEN = 40  # pixels, panels

_AXIS = {
    "gridcolor": GRID,
    "linecolor": MUTED,
    "showline": True,
    "ticks": "outside",
    "tickcolor": MUTED,
    "zeroline": False,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
}
THEME = go.layout.Template(
    layout={
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": CATEGORIES,
        "hoverlabel": {"align": "left"},
        "legend": {"tracegroupgap": 0},
        "margin": {"l": 60, "r": 20, "t": 44, "b": 50},
        "title": {"x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 14}},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def facetted(facets: Sequence[str], **options: Any) -> go.Figure:
    """A panel for each facet, one below the other; a single one without a name has no title."""
    titles = None if list(facets) == [""] else [plain(facet) for facet in facets]
    spacing = min(0.08, 0.4 / len(facets))
    figure = make_subplots(
        rows=len(facets), cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=spacing, **options
    )
    return figure.update_annotations(x=0, xanchor="left", font_size=12)


def panels_height(panels: int, rows: int, largest: int) -> int:
    """Pixels of so many panels with so many rows of cells: at most a page of A4, as long as the rows stay legible."""
    row = max(14, min(largest, (_PAGE - _BETWEEN * panels) // (panels * rows)))
    return panels * (rows * row + _BETWEEN) - _BETWEEN


def styled(figure: go.Figure, title: str, note: str = "", **layout: Any) -> go.Figure:
    """The figure in our style; `note` is a line under the title that says how to read it. `height` is in pixels."""
    subtitle = {"subtitle": {"text": note, "font": {"size": 11, "color": MUTED}}} if note else {}
    # Names of facets stand above their panels.
    top = (78 if note else 44) + (20 if figure.layout.annotations else 0)
    return figure.update_layout(template=THEME, title={"text": title, **subtitle}, margin_t=top, **layout)


def nothing(title: str, why: str, x_title: str, y_title: str) -> go.Figure:
    """A figure without data that says why."""
    figure = styled(go.Figure(), title, height=220, xaxis_title=x_title, yaxis_title=y_title)
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    said = {"text": why, "showarrow": False, "font": {"color": MUTED}}
    return figure.add_annotation(said, xref="paper", yref="paper", x=0.5, y=0.5)


def sequence(count: int) -> list[str]:
    """So many colours from dark to light, in equal steps of cividis, without its end that is hard to see on white."""
    places = [0.0] if count == 1 else [0.88 * place / (count - 1) for place in range(count)]
    return list(sample_colorscale("Cividis", places))


def loss_axis(losses: pd.Series[float]) -> dict[str, Any]:
    """Logarithmic where a few edits break the model so much that on a linear axis all others would look alike."""
    positive = losses[losses.gt(0) & losses.lt(float("inf"))]
    if positive.empty or positive.max() <= 8 * positive.min():
        return {"type": "linear"}
    return {"type": "log", "dtick": "D2"}  # ticks at 1, 2 and 5
