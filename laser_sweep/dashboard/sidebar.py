"""The navigation and the filters beside every page: everything in them is a link."""

from __future__ import annotations

from dash import html
from dash.development.base_component import Component

from laser_sweep.dashboard import words
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.filters import Facet
from laser_sweep.dashboard.live import live
from laser_sweep.dashboard.parts import Child, aria, link, live_text
from laser_sweep.dashboard.url import Filters, PageName, View

_TABS: tuple[tuple[PageName, str], ...] = (
    ("sweeps", "Sweeps"),
    ("heat-maps", "Heat maps"),
    ("trials", "Trials"),
    ("leaderboard", "Leaderboard"),
    ("compare", "Compare"),
    ("failures", "Failures"),
)
_HEADINGS = {"dataset": "data set", "tau": "matrix τ", "layer": "layer ℓ", "rho": "fraction ρ"}
_OPEN = 90  # characters that the values of a facet may have to be shown without being asked for


def navigation(context: Context) -> Component:
    """Links to all pages with the same filters."""
    view = context.view
    failed = int(context.trials["status"].eq("failed").sum())
    links = []
    for page, name in _TABS:
        target = View(page=page, filters=view.filters)
        if page == "compare" and view.page == "compare":
            target = view
        text: list[Child] = [name]
        if page == "failures" and failed:
            text += [" ", live("failed", html.Span(f"{failed:,}", className="count"))]
        here = aria(current="page" if page == view.page else None)
        links.append(link(text, target.href, place=f"page:{page}", **here))
    return html.Nav([*links, _state(context)], className="pages", **aria(label="Pages"))


def filters(context: Context) -> Component:
    """What the trials can be filtered by, and by what they are."""
    view = context.view
    facets = [one for one in context.snapshot.index.facets(view.filters) if _worth_showing(one, view.filters)]
    total, passing = len(context.snapshot.trials), int(context.passing.sum())
    clear = view.changed(filters=Filters())
    head = html.Div(
        [
            html.H2("Filters"),
            live_text("passing", f"{passing:,} of {total:,} trials"),
            link("clear all", clear.href, place="clear", className="minor") if view.filters != Filters() else None,
        ],
        className="filters-head",
    )
    return html.Aside([head, *(_facet(one, view) for one in facets)], className="filters", **aria(label="Filters"))


def _state(context: Context) -> Component:
    """How fresh the page is."""
    trials = context.snapshot.trials
    last = f"last result {words.moment(trials['finished_at'].max())}" if len(trials) else "no result yet"
    dot = html.Span("●", className="following", **aria(hidden="true"))
    return html.Span([dot, " following · ", live_text("last", last)], className="state")


def _worth_showing(facet: Facet, chosen: Filters) -> bool:
    """Nobody filters by what is the same in all trials."""
    return len(facet.values) > 1 or bool(getattr(chosen, facet.column))


def _facet(facet: Facet, view: View) -> Component:
    chosen = getattr(view.filters, facet.column)
    links = []
    for value, count in zip(facet.values, facet.counts, strict=True):
        here = value in chosen
        target = view.changed(filters=view.filters.toggled(facet.column, value))
        place = f"{facet.column}:{value}"
        links.append(
            html.Li(
                link(
                    [html.Span(value), live_text(f"count:{place}", f"{count:,}")],
                    target.href,
                    place=place,
                    className="" if count or here else "none",
                    **aria(current="true" if here else None),
                )
            )
        )
    heading = _HEADINGS.get(facet.column, facet.column)
    body: Component = html.Ul(links, className="chips")
    anything = view.changed(filters=view.filters.without(facet.column))
    title = [heading, " ", link("any", anything.href, place=f"{facet.column}:", className="minor") if chosen else None]
    if sum(map(len, facet.values)) > _OPEN:
        summary = html.Summary(f"{len(links):,} values")
        body = html.Details([summary, body], open=bool(chosen), id=f"facet-{facet.column}")
    return html.Section([html.H3(title), body])
