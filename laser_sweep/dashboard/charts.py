"""Figures in a page, and a memory of them."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pandas as pd
from dash import dcc, html
from dash.development.base_component import Component

from laser_sweep.dashboard.live import live
from laser_sweep.figures import Chart

# Beside other figures there is little room, so that titles begin at the edge.
_CORNER = {"xref": "container", "x": 0.02, "yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 12}}
_FONT = {
    "family": '-apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif'
}  # as the page
_CONFIG: Any = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


@dataclass(frozen=True, slots=True)
class Drawn:
    """A Chart as plain values, which costs nothing to send again."""

    figure: dict[str, Any]
    alt: str


_EMPTY = Drawn({"data": [], "layout": {"height": 300, "xaxis": {"visible": False}, "yaxis": {"visible": False}}}, "")


class Drawings:
    """Remembers figures by what they were drawn from.

    A filter, or one more trial of a sweep that runs, changes few of a page's figures, and to draw one takes longer than
    all else.
    """

    def __init__(self, size: int = 200) -> None:
        self._size = size
        self._drawn: OrderedDict[Hashable, Drawn] = OrderedDict()
        self._lock = Lock()

    def find(self, key: Hashable) -> Drawn | None:
        with self._lock:
            if key in self._drawn:
                self._drawn.move_to_end(key)
            return self._drawn.get(key)

    def keep(self, key: Hashable, drawn: Drawn) -> None:
        with self._lock:
            self._drawn[key] = drawn
            if len(self._drawn) > self._size:
                self._drawn.popitem(last=False)


class Easel:
    """Draws the figures of one page, and leaves those for later for which a person would have to wait.

    After `seconds`, None for any time, figures that are not remembered stay empty, and their names are `pending`.
    """

    def __init__(self, drawings: Drawings, seconds: float | None = None) -> None:
        self.pending: list[str] = []
        self._drawings = drawings
        self._until = math.inf if seconds is None else time.monotonic() + seconds

    def draw(self, name: str, rows: pd.DataFrame, make: Callable[[], Chart]) -> Drawn:
        """The figure called `name` of these rows of `trials`, made by `make` where it is not remembered."""
        key = (name, tuple(rows["trial_key"]), tuple(rows["finished_at"]))
        drawn = self._drawings.find(key)
        if drawn is None and time.monotonic() > self._until:
            self.pending.append(name)
            return _EMPTY
        if drawn is None:
            drawn = plain(make())
            self._drawings.keep(key, drawn)
        return drawn


def plain(chart: Chart) -> Drawn:
    """A figure as plain values."""
    return Drawn(chart.figure.to_dict(), chart.alt)


def figure(name: str, drawn: Drawn, view: str = "", height: int | None = None, *, wide: bool = False) -> Component:
    """A figure, with what it says in words for who does not see it. As long as `view` is the same, zoom stays."""
    layout = drawn.figure["layout"]
    layout = {**layout, "uirevision": view or name, "title": {**layout.get("title", {}), **_CORNER}, "font": _FONT}
    if height is not None:
        layout["height"] = height
    graph = dcc.Graph(figure={**drawn.figure, "layout": layout}, config=_CONFIG, className="graph")
    words = html.Figcaption(drawn.alt, className="for-screen-readers")
    children = [live(name, graph, kind="chart"), live(f"{name}-words", words)]
    return html.Figure(children, className="chart wide" if wide else "chart")


def figures(*drawn: Component) -> Component:
    """Figures beside and below each other."""
    return html.Div(list(drawn), className="charts")
