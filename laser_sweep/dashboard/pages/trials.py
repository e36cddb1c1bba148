"""Every trial that passes the filters."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from laser_sweep.analysis.comparisons import ComparisonView
from laser_sweep.dashboard import tables
from laser_sweep.dashboard.charts import figure, figures
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.pages.heat_maps import choice
from laser_sweep.dashboard.parts import Children, notice
from laser_sweep.dashboard.tables import Column
from laser_sweep.figures import composition_path, loss_against_accuracy
from laser_sweep.measures import ANSWERS, KINDS

TITLE = "Trials"

_HEIGHT = 320  # pixels of a figure above the table
MOST_POINTS = 5000
"""More points than this in one figure take longer to draw than to filter away."""


def page(context: Context) -> list[Children]:
    if context.trials.empty:
        return [notice("No trial passes the filters.")]
    grid, wrong = tables.table(
        "trials", columns(context), None, context.view, "trials", key="trial_key", count=len(listed(context)),
        selectable=True,
    )  # fmt: skip
    bar = html.Div(
        [html.Span("Select trials in the first column to compare them.", id="selection", role="status")],
        className="selection",
    )
    return [notice(*wrong, kind="wrong") if wrong else None, *_figures(context), bar, grid]


def listed(context: Context):  # type: ignore[no-untyped-def]
    """The trials of the table: all that pass, or those of the comparison that the view names."""
    shown = context.comparison() if context.view.comparison else None
    return context.trials if shown is None else context.trials[context.trials.index.isin(shown.trials.index)]


def columns(context: Context) -> list[Column]:
    """The columns of the table, by the names of `rows.on_screen`; measures that no trial has are left out."""
    view, trials = context.view, context.snapshot.trials
    kinds = [kind for kind in KINDS if trials[kind.score.column].notna().any()] or [ANSWERS]
    scores = [
        tables.with_error(kind.score.column, kind.score.stderr, kind.score.heading, kind.score.decimals, minWidth=132)
        for kind in kinds
    ]
    losses = [tables.number(kind.loss.column, kind.loss.name, kind.loss.decimals) for kind in kinds]
    trial = view.at("trial").open("trial")
    return [
        tables.linked(
            tables.text("place", "edit", pinned="left", sortable=False, filter=False, width=200), trial, by="trial_key"
        ),
        tables.badges(tables.filtering(tables.text("status", "status", width=90), view)),
        *scores,
        tables.number("gain", "gain", max(kind.score.decimals for kind in kinds), signed=True, width=80),
        tables.p_value("p_value", "p", width=84),
        *losses,
        tables.filtering(tables.text("tau", "τ", width=90), view),
        tables.filtering(
            tables.text("layer", "ℓ", width=60, cellDataType="number", filter="agNumberColumnFilter"), view
        ),
        tables.filtering(tables.number("rho", "ρ", width=80), view),
        tables.filtering(tables.text("intervention", "intervention"), view),
        tables.filtering(tables.text("model", "model"), view),
        tables.filtering(tables.text("dataset", "data set"), view),
        tables.filtering(tables.text("split", "split", width=70), view),
        tables.number("num_examples", "examples", 0),
        tables.filtering(tables.text("sweep", "sweep"), view),
        tables.number("parameters", "numbers kept", 0),
        tables.number("seconds", "seconds", 2),
        tables.text("finished", "finished (UTC)", width=160),
        tables.linked(tables.text("trial_key", "key", width=150), trial),
    ]


def _figures(context: Context) -> list[Component]:
    shown = context.comparison()
    if shown is None:
        return []
    rows, view = shown.trials, context.view.href
    drawn = []
    if len(rows) <= MOST_POINTS:
        losses = context.easel.draw("loss-accuracy", rows, lambda: loss_against_accuracy(rows))
        drawn.append(figure("loss-accuracy", losses, view, _HEIGHT))
    if _composed(shown):
        path = context.easel.draw("composition", rows, lambda: composition_path(rows))
        drawn.append(figure("composition", path, view, _HEIGHT))
    return [choice(context, shown), figures(*drawn)]


def _composed(shown: ComparisonView) -> bool:
    edited = shown.edited
    return bool((edited["tau"].isna() & edited["edits"].map(len).gt(1)).any())
