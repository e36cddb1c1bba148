"""Whether what gains accuracy also lowers the loss."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from laser_sweep.analysis.comparisons import is_untouched, measures_in, ranked, untouched_row
from laser_sweep.figures.chart import Chart
from laser_sweep.figures.style import CATEGORIES, MUTED, SYMBOLS, UNTOUCHED, loss_axis, nothing, styled
from laser_sweep.figures.words import axis_title, count, place_text, plain, row_text
from laser_sweep.measures import Measures
from laser_sweep.trial import GROUPS, TAUS

SEVERAL = "several edits"


def loss_against_accuracy(trials: pd.DataFrame) -> Chart:
    """The loss (log-loss in nats) against the score (accuracy in %), a point for each finished trial, by τ.

    The untouched model is a star, and lines through it say where both are better: below it, to the right.
    `customdata` of each point is its trial_key.
    """
    measures = measures_in(trials)
    score, loss = measures.score, measures.loss
    title, titles = f"{loss.name} against {score.name}", (axis_title(score), axis_title(loss))
    untouched = untouched_row(trials)
    done = trials[trials["status"].eq("done") & ~is_untouched(trials)]
    done = done.assign(kind=done["tau"].astype(object).where(done["tau"].notna(), SEVERAL))
    if done.empty and untouched is None:
        return Chart(nothing(title, "no trial is done", *titles), "No trial is done.")
    figure = go.Figure()
    known = [*TAUS, *GROUPS]
    for number, kind in enumerate(sorted(done["kind"].unique(), key=lambda kind: (_rank(kind, known), kind))):
        part = done[done["kind"].eq(kind)]
        figure.add_trace(
            go.Scatter(
                name=plain(kind), mode="markers", x=score.scale * part[score.column].to_numpy(),
                y=part[loss.column].to_numpy(), customdata=list(part["trial_key"]),
                text=[_hover(row) for _, row in part.iterrows()], hovertemplate="%{text}<extra></extra>",
                marker={"color": CATEGORIES[number % len(CATEGORIES)], "symbol": SYMBOLS[number % len(SYMBOLS)]}
                | {"size": 9, "opacity": 0.8, "line": {"color": "white", "width": 0.5}},
            )
        )  # fmt: skip
    if untouched is not None:
        _draw_untouched(figure, untouched, measures)
    styled(figure, title, height=420, xaxis_title=titles[0], yaxis_title=titles[1], legend_title_text="τ")
    figure.update_yaxes(loss_axis(trials[loss.column].astype(float)))
    return Chart(figure, _alt(done, untouched, measures))


def _draw_untouched(figure: go.Figure, row: pd.Series[Any], measures: Measures) -> None:
    score = measures.score
    x, y = score.scale * float(row[score.column]), float(row[measures.loss.column])
    figure.add_hline(y=y, line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.add_vline(x=x, line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.add_trace(
        go.Scatter(
            name="untouched", mode="markers", x=[x], y=[y], customdata=[row["trial_key"]], text=[_hover(row)],
            hovertemplate="%{text}<extra></extra>", error_x={"array": [score.scale * float(row[score.stderr])]},
            marker={"color": UNTOUCHED, "symbol": "star", "size": 15},
        )
    )  # fmt: skip


def _rank(kind: str, known: list[str]) -> int:
    return known.index(kind) if kind in known else len(known) + (kind == SEVERAL)


def _hover(row: pd.Series[Any]) -> str:
    return f"{plain(place_text(row))}<br>{row_text(row)}"


def _alt(done: pd.DataFrame, untouched: pd.Series[Any] | None, measures: Measures) -> str:
    score, loss = measures.score, measures.loss
    parts = []
    if not done.empty:
        best = ranked(done).iloc[0]
        parts.append(
            f"the {_MOST[score.name]}, {place_text(best)}, has {score.text(best[score.column])} and "
            f"{loss.text(best[loss.column])}"
        )
    if done[loss.column].notna().any():
        lowest = ranked(done, "loss").iloc[0]
        parts.append(
            f"the lowest {loss.name}, of {place_text(lowest)}, is {loss.text(lowest[loss.column])} "
            f"at {score.text(lowest[score.column])}"
        )
    if untouched is not None:
        base, lost = float(untouched[score.column]), float(untouched[loss.column])
        better = done[score.column].gt(base)
        both = int((better & done[loss.column].lt(lost)).sum())
        parts.append(
            f"{int(better.sum()):,} are {_MORE[score.name]} than the untouched model with {score.text(base)} and "
            f"{loss.text(lost)}, {both:,} of them with a lower {loss.name} too"
        )
    named = f"{loss.name[0].upper()}{loss.name[1:]} against {score.name}"
    return f"{named} of {count(len(done), 'edit')}: {'; '.join(parts)}."


_MOST = {"accuracy": "most accurate", "return": "highest return"}
_MORE = {"accuracy": "more accurate", "return": "better"}
