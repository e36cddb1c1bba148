"""The trials of one comparison as figures, one for each τ."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dash import html
from dash.development.base_component import Component

from laser_sweep.analysis.comparisons import ComparisonView
from laser_sweep.dashboard import words
from laser_sweep.dashboard.charts import Drawn, figure, figures
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.filters import in_order_of_a_block
from laser_sweep.dashboard.parts import Children, aria, cards, link, notice, tabs
from laser_sweep.dashboard.url import Figure, View
from laser_sweep.figures import Chart, by_layer, coverage, gain_heat_map
from laser_sweep.figures.words import place_text

TITLE = "Heat maps"

_NARROW = 12  # layers

_FIGURES: Mapping[Figure, Callable[[ComparisonView, str], Chart]] = {
    "gain": lambda view, tau: gain_heat_map(view.trials, tau),
    "accuracy": lambda view, tau: by_layer(view.trials, "score", tau),
    "log_loss": lambda view, tau: by_layer(view.trials, "loss", tau),
    "coverage": lambda view, tau: coverage(view.trials, tau),
}


def page(context: Context) -> list[Children]:
    shown = context.comparison()
    if shown is None:
        return [notice("No trial passes the filters.")]
    view = context.view
    taus = in_order_of_a_block(shown.edited["tau"].dropna().unique())
    drawn = [
        figure(f"{view.figure}-{tau}", _drawn(context, shown, tau), view.href, wide=_is_wide(shown, tau))
        for tau in taus
    ]
    return [
        choice(context, shown),
        standing(shown, view),
        tabs(
            "Figure",
            [(_title(kind, shown), view.changed(figure=kind).href, kind == view.figure) for kind in _FIGURES],
        ),
        figures(*drawn) if drawn else notice("None of these trials edits one τ in one place."),
        html.P(
            [
                "Click a cell or a point to open its trial. The same trials ",
                link("as a table", view.at("trials", comparison=shown.key).href),
                ", which can be used by keyboard.",
            ],
            className="hint",
        ),
    ]


def _drawn(context: Context, shown: ComparisonView, tau: str) -> Drawn:
    kind = context.view.figure
    rows = shown.trials
    part = rows[rows["tau"].eq(tau) | rows["intervention"].eq("none")] if kind != "coverage" else rows
    return context.easel.draw(f"{kind}-{tau}", part, lambda: _FIGURES[kind](shown, tau))


def _title(kind: Figure, shown: ComparisonView) -> str:
    """`Accuracy by layer`, of what its trials are judged by."""
    measures = {"accuracy": shown.measures.score, "log_loss": shown.measures.loss}
    return f"{measures[kind].name.capitalize()} by layer" if kind in measures else kind.capitalize()


def choice(context: Context, shown: ComparisonView) -> Component:
    """The comparison that is shown, and links to the others."""
    others = context.comparisons
    heading = html.H2(shown.title, className="comparison")
    if len(others) < 2:
        return heading
    links = [
        html.Li(
            link(
                one.title,
                context.view.changed(comparison=one.key).href,
                place=f"comparison:{one.key}",
                **aria(current="true" if one.key == shown.key else None),
            )
        )
        for one in others
    ]
    summary = html.Summary([f"{len(others):,} comparisons pass the filters; choose one"])
    return html.Div([heading, html.Details([summary, html.Ul(links, className="choices")], id="comparisons")])


def standing(shown: ComparisonView, view: View) -> Component:
    """The untouched model and the best trial of a comparison."""
    untouched, best = shown.untouched, shown.winner()
    items = [
        (
            "untouched",
            words.score(untouched),
            f"{shown.measures.loss.name} {words.loss(untouched)}",
        )
    ]
    if best is not None:
        items.append(("best", words.score(best), place_text(best)))
        items.append(("gain of the best", words.gain(best), words.p_value(best["gain_p_value"])))
    edited = shown.edited
    failed = int(edited["status"].eq("failed").sum())
    items.append(("edits tried", f"{len(edited):,}", f"{failed:,} failed" if failed else "none failed"))
    return cards(items)


def _is_wide(shown: ComparisonView, tau: str) -> bool:
    """Whether the figure needs the room of two: many layers, or several facets with long names."""
    edited = shown.trials[shown.trials["tau"].eq(tau)]
    return edited["layer"].nunique() > _NARROW or edited["intervention"].nunique() > 1
