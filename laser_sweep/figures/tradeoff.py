"""Whether what gains accuracy also lowers the loss."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from laser_sweep.analysis.comparisons import is_untouched, ranked, untouched_row
from laser_sweep.figures.chart import Chart
from laser_sweep.figures.style import CATEGORIES, MUTED, SYMBOLS, UNTOUCHED, loss_axis, nothing, styled
from laser_sweep.figures.words import count, percent, place_text, plain
from laser_sweep.trial import GROUPS, TAUS

X_TITLE, Y_TITLE = "accuracy (%)", "log-loss (nats)"
SEVERAL = "several edits"


def loss_against_accuracy(trials: pd.DataFrame) -> Chart:
    """Log-loss in nats against accuracy in %, a point for each finished trial of a comparison, by τ.

    The untouched model is a star, and lines through it say where both are better: below it, to the right.
    `customdata` of each point is its trial_key.
    """
    title = "log-loss against accuracy"
    untouched = untouched_row(trials)
    done = trials[trials["status"].eq("done") & ~is_untouched(trials)]
    done = done.assign(kind=done["tau"].astype(object).where(done["tau"].notna(), SEVERAL))
    if done.empty and untouched is None:
        return Chart(nothing(title, "no trial is done", X_TITLE, Y_TITLE), "No trial is done.")
    figure = go.Figure()
    known = [*TAUS, *GROUPS]
    for number, kind in enumerate(sorted(done["kind"].unique(), key=lambda kind: (_rank(kind, known), kind))):
        part = done[done["kind"].eq(kind)]
        figure.add_trace(
            go.Scatter(
                name=plain(kind), mode="markers", x=100 * part["accuracy"].to_numpy(), y=part["log_loss"].to_numpy(),
                customdata=list(part["trial_key"]), text=[_hover(row) for _, row in part.iterrows()],
                hovertemplate="%{text}<extra></extra>",
                marker={"color": CATEGORIES[number % len(CATEGORIES)], "symbol": SYMBOLS[number % len(SYMBOLS)]}
                | {"size": 9, "opacity": 0.8, "line": {"color": "white", "width": 0.5}},
            )
        )  # fmt: skip
    if untouched is not None:
        _draw_untouched(figure, untouched)
    styled(figure, title, height=420, xaxis_title=X_TITLE, yaxis_title=Y_TITLE, legend_title_text="τ")
    figure.update_yaxes(loss_axis(trials["log_loss"].astype(float)))
    return Chart(figure, _alt(done, untouched))


def _draw_untouched(figure: go.Figure, row: pd.Series[Any]) -> None:
    x, y = 100 * float(row["accuracy"]), float(row["log_loss"])
    figure.add_hline(y=y, line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.add_vline(x=x, line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.add_trace(
        go.Scatter(
            name="untouched", mode="markers", x=[x], y=[y], customdata=[row["trial_key"]], text=[_hover(row)],
            hovertemplate="%{text}<extra></extra>", error_x={"array": [100 * float(row["accuracy_stderr"])]},
            marker={"color": UNTOUCHED, "symbol": "star", "size": 15},
        )
    )  # fmt: skip


def _rank(kind: str, known: list[str]) -> int:
    return known.index(kind) if kind in known else len(known) + (kind == SEVERAL)


def _hover(row: pd.Series[Any]) -> str:
    return f"{plain(place_text(row))}<br>accuracy {percent(row['accuracy'])}, log-loss {row['log_loss']:.3f} nats"


def _alt(done: pd.DataFrame, untouched: pd.Series[Any] | None) -> str:
    parts = []
    if not done.empty:
        best = ranked(done).iloc[0]
        parts.append(
            f"the most accurate, {place_text(best)}, has {percent(best['accuracy'])} and {best['log_loss']:.3f} nats"
        )
    if done["log_loss"].notna().any():
        lowest = ranked(done, "log_loss").iloc[0]
        parts.append(
            f"the lowest log-loss, of {place_text(lowest)}, is {lowest['log_loss']:.3f} nats "
            f"at {percent(lowest['accuracy'])}"
        )
    if untouched is not None:
        base, loss = float(untouched["accuracy"]), float(untouched["log_loss"])
        better = done["accuracy"].gt(base)
        both = int((better & done["log_loss"].lt(loss)).sum())
        parts.append(
            f"{int(better.sum()):,} are more accurate than the untouched model with {percent(base)} and "
            f"{loss:.3f} nats, {both:,} of them with a lower log-loss too"
        )
    return f"Log-loss against accuracy of {count(len(done), 'edit')}: {'; '.join(parts)}."
