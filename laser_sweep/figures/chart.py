"""A figure together with what it says in words."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure, and `alt`: a sentence with the numbers that matter, for who does not see it."""

    figure: go.Figure
    alt: str
