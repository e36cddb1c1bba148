"""How numbers and trials are written in figures and beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from laser_sweep.measures import Measure, Measures, measures_of


def percent(fraction: float) -> str:
    """`45.4 %`."""
    return f"{100 * fraction:.1f} %"


def points(difference: float) -> str:
    """`+53.8 points`."""
    return f"{100 * difference:+.1f} points"


def figures_text(score: float, loss: float, measures: Measures) -> str:
    """`accuracy 45.4 %, log-loss 0.567 nats`; without a loss where none was measured."""
    parts = [f"{measures.score.name} {measures.score.text(score)}"]
    lost = measures.loss.text(loss)
    return ", ".join([*parts, f"{measures.loss.name} {lost}"] if lost else parts)


def row_text(row: pd.Series[Any]) -> str:
    """What a finished trial of the store has, as `figures_text`."""
    measures = measures_of(row)
    return figures_text(row[measures.score.column], row[measures.loss.column], measures)


def axis_title(measure: Measure) -> str:
    """`accuracy (%)`."""
    return f"{measure.name} ({measure.unit.strip()})" if measure.unit else measure.name


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 trial`, `2,240 trials`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def plain(text: str) -> str:
    """A text from data, in a figure: plotly takes what looks like HTML for HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def rho_text(rho: float) -> str:
    """ρ as it stands on an axis: `0.05`, and `0.023438` for 3 of 128 directions."""
    return f"{rho:.5g}"


def place_text(row: pd.Series[Any]) -> str:
    """How a person names the edits of a trial: `fc_in[27] ρ 0.01`, `fc_in[all] ρ 0.1 clusters=4`."""
    edits = list(row["edits"])
    if not edits:
        return "the untouched model"
    if pd.isna(row["tau"]) or pd.isna(row["rho"]):
        return ", ".join(f"{edit['tau']}[{edit['layer']}] ρ {rho_text(edit['rho'])}" for edit in edits)
    layer = "all" if pd.isna(row["layer"]) else int(row["layer"])
    options = "".join(f" {name}={value}" for name, value in options_of(edits).items())
    return f"{row['tau']}[{layer}] ρ {rho_text(row['rho'])}{options}"


def options_of(edits: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The options of a trial's intervention, which all of its edits share; files of version 2 have none."""
    for edit in edits:
        text = edit.get("options")
        return dict(json.loads(text)) if text else {}
    return {}
