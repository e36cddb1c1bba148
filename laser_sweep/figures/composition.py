"""How edits were put on top of each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from laser_sweep.analysis.comparisons import edits_of, measures_in, untouched_row
from laser_sweep.figures.chart import Chart
from laser_sweep.figures.style import CATEGORIES, MUTED, UNTOUCHED, nothing, styled
from laser_sweep.figures.words import axis_title, count, place_text, plain, rho_text, row_text
from laser_sweep.measures import Measure, measures_of

X_TITLE = "step, and what it changed"
_LABELS_FIT = 10  # steps, beside each other in a figure 680 pixels wide

Places = dict[tuple[str, int], list[Any]]
"""What is done to each matrix (τ, ℓ): ρ, method and options."""


@dataclass(frozen=True, slots=True)
class Step:
    """A trial of a composition, what it changed, and whether the next one built on it."""

    row: pd.Series[Any]
    change: str
    kept: bool


def composition_path(trials: pd.DataFrame) -> Chart:
    """The score of the trials that edit several matrices, in the order in which they ran, kept or not.

    `trials` are those of one comparison. The first step is the single edit that the first composition began with, where
    it is among them. `customdata` of each point is its trial_key.
    """
    title = "edits on top of each other, step by step"
    steps, score = composition_steps(trials), measures_in(trials).score
    if not steps:
        why = "no finished trial puts edits of several places together"
        return Chart(nothing(title, why, X_TITLE, axis_title(score)), f"{why[0].upper()}{why[1:]}.")
    untouched = untouched_row(trials)
    figure = go.Figure()
    if untouched is not None:
        base = score.scale * float(untouched[score.column])
        figure.add_hline(
            y=base, line={"color": UNTOUCHED, "width": 1.5, "dash": "dash"}, annotation_text="untouched",
            annotation_position="bottom right",
        )  # fmt: skip
    numbers = range(1, len(steps) + 1)
    kept = [(number, step) for number, step in zip(numbers, steps, strict=True) if step.kept]
    dropped = [(number, step) for number, step in zip(numbers, steps, strict=True) if not step.kept]
    look: dict[str, dict[str, Any]] = {
        "kept": {"mode": "lines+markers", "line": {"color": CATEGORIES[0], "shape": "hv"}}
        | {"marker": {"symbol": "circle", "size": 10, "color": CATEGORIES[0]}},
        "taken back": {"mode": "markers"}
        | {"marker": {"symbol": "x-thin-open", "size": 10, "color": CATEGORIES[1], "line_width": 2}},
    }
    for name, points in (("kept", kept), ("taken back", dropped)):
        figure.add_trace(
            go.Scatter(
                name=name, x=[number for number, _ in points],
                y=[score.scale * float(step.row[score.column]) for _, step in points],
                customdata=[step.row["trial_key"] for _, step in points],
                text=[_hover(step, name) for _, step in points], hovertemplate="%{text}<extra></extra>", **look[name],
            )
        )  # fmt: skip
    styled(figure, title, height=400, xaxis_title=X_TITLE, yaxis_title=axis_title(score))
    figure.update_layout(legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"})
    if len(steps) <= _LABELS_FIT:
        labels = [f"{number}<br>{step.change}" for number, step in zip(numbers, steps, strict=True)]
        figure.update_xaxes(tickvals=list(numbers), ticktext=labels, tickangle=0, tickfont={"size": 10, "color": MUTED})
    return Chart(figure, _alt(steps, untouched, score))


def composition_steps(trials: pd.DataFrame) -> list[Step]:
    """The finished trials that edit several places, in the order in which they ran.

    A step was kept where the next one builds on it: has all its edits, or lowers ρ in the same matrices. It was taken
    back where the next one builds on what was kept before. The last one, and one before a new beginning, is held
    against what was kept: a step that makes the score no worse, of equals the loss, is kept, as by `search=greedy`.
    """
    done = trials[trials["status"].eq("done")].sort_values(["started_at", "trial_key"])
    several = done[done["tau"].isna() & done["edits"].map(len).gt(1)]
    if several.empty:
        return []
    rows = [row for _, row in several.iterrows()]
    single = [row for _, row in done[done["edits"].map(len).eq(1)].iterrows()]
    rows = [*[row for row in single if _edits(row).items() <= _edits(rows[0]).items()][-1:], *rows]
    steps: list[Step] = []
    base: pd.Series[Any] | None = None
    for number, row in enumerate(rows):
        following = rows[number + 1] if number + 1 < len(rows) else None
        if following is not None and _builds_on(following, row):
            kept = True
        elif following is not None and base is not None and _builds_on(following, base):
            kept = False
        else:
            kept = base is None or _value(row) >= _value(base)
        steps.append(Step(row, _change(row, base), kept))
        base = row if kept else base
    return steps


def _edits(row: pd.Series[Any]) -> Places:
    return {(tau, layer): what for tau, layer, *what in sorted(edits_of(row))}


def _builds_on(later: pd.Series[Any], earlier: pd.Series[Any]) -> bool:
    new, old = _edits(later), _edits(earlier)
    return old.items() <= new.items() or old.keys() == new.keys()


def _value(row: pd.Series[Any]) -> tuple[float, float]:
    measures = measures_of(row)
    loss = float(row[measures.loss.column])
    return float(row[measures.score.column]), 0.0 if math.isnan(loss) else -loss


def _change(row: pd.Series[Any], base: pd.Series[Any] | None) -> str:
    """`fc_in[27]` and `ρ 0.1` below it: what is other than in what was kept before."""
    before = {} if base is None else _edits(base)
    changed = [(matrix, what[0]) for matrix, what in _edits(row).items() if before.get(matrix) != what]
    shown = [f"{tau}[{layer}]<br>ρ {rho_text(rho)}" for (tau, layer), rho in changed[:2]]
    return "<br>".join([*shown, f"and {len(changed) - 2} more"] if len(changed) > 2 else shown)


def _hover(step: Step, name: str) -> str:
    return f"{name}: {plain(place_text(step.row)).replace(', ', '<br>')}<br>{row_text(step.row)}"


def _alt(steps: list[Step], untouched: pd.Series[Any] | None, score: Measure) -> str:
    kept = [step for step in steps if step.kept]
    start = "" if untouched is None else f" from {score.text(untouched[score.column])} untouched"
    end = kept[-1].row if kept else steps[-1].row
    return (
        f"Composition in {count(len(steps), 'step')}, {len(kept):,} of them kept: {score.name} goes{start} to "
        f"{score.text(end[score.column])} with {place_text(end)}."
    )
