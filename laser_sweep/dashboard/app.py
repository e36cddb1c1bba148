"""The Dash application: the frame of every page, and what happens when something in it is used."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from laser_sweep.dashboard import rows, sidebar, tables
from laser_sweep.dashboard.charts import Drawings, Easel
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.data import LiveStore
from laser_sweep.dashboard.live import live_id, parts, shape
from laser_sweep.dashboard.pages import compare, failures, heat_maps, leaderboard, sweeps, trial, trials
from laser_sweep.dashboard.parts import Child, Children, flat, link, notice
from laser_sweep.dashboard.url import PageName, View, parse
from laser_sweep.errors import RequestError

PATIENCE_SECONDS = 0.12
"""How long a page may take to draw figures before the rest of it is sent without them."""
FOLLOW_SECONDS = 2.0
"""How often a page asks whether there is anything new."""

_MODULES: Mapping[PageName, Any] = {
    "sweeps": sweeps,
    "heat-maps": heat_maps,
    "trials": trials,
    "trial": trial,
    "compare": compare,
    "leaderboard": leaderboard,
    "failures": failures,
}
_log = logging.getLogger(__name__)


class Dashboard:
    """The pages of one store. Its methods are the callbacks of the application, which `make_app` wires."""

    def __init__(self, store: LiveStore) -> None:
        self._store = store
        self._drawings = Drawings()

    def frame(self, address: str | None, patience: float | None = None) -> tuple[Component, Context]:
        """All that stands below the head of the page, for what is stored now, drawn for so many seconds at most.

        Whatever the address is and whatever goes wrong, there is a page that says so.
        """
        view, wrong = parse(address or "/")
        snapshot = self._store.snapshot()
        context = Context(view, snapshot, self._store, Easel(self._drawings, patience))
        title = html.H1(_MODULES[view.page].TITLE, tabIndex="-1")
        body: list[Child]
        try:
            body = flat(_nothing_yet(self._store) if snapshot.trials.empty else _MODULES[view.page].page(context))
        except RequestError as error:
            body = [notice(str(error), kind="wrong"), _way_out(view)]
        except Exception:  # a person sees what they can do; what went wrong stands in the terminal
            _log.exception("page %s", view.href)
            message = "This page could not be made; the terminal in which laser_sweep.dashboard runs says why."
            body = [notice(message, kind="wrong"), _way_out(view)]
        main = html.Main([title, *([notice(*wrong, kind="wrong")] if wrong else []), *body], id="main", tabIndex="-1")
        whole = html.Div([sidebar.navigation(context), sidebar.filters(context), main], className="frame")
        return whole, context

    def show(self, address: str | None, again: object) -> tuple[Component, dict[str, Any], str]:
        """The frame of an address; what is shown, for `follow`; the words of the search.

        `again` says that the frame has changed so much that its parts no longer fit.
        """
        whole, context = self.frame(address, PATIENCE_SECONDS)
        shown = {
            "address": address,
            "version": context.snapshot.version,
            "shape": shape(whole),
            "title": _MODULES[context.view.page].TITLE,
            "pending": context.easel.pending,
        }
        return whole, shown, context.view.filters.search

    def finish(self, shown: Mapping[str, Any] | None) -> dict[str, Any]:
        """The figures that `show` left for later. Raises PreventUpdate where there are none."""
        if not shown or not shown["pending"]:
            raise PreventUpdate
        whole, _ = self.frame(shown["address"])
        names = [*shown["pending"], *(f"{name}-words" for name in shown["pending"])]
        missing = [part for part in parts(whole) if part["id"]["live"] in names]
        return _news(shown, whole, shown["version"], missing)

    def follow(self, tick: object, shown: Mapping[str, Any] | None, fresh: Mapping[str, Any] | None) -> dict[str, Any]:
        """What is new in the page that is shown and was brought up to date last as `fresh` says.

        Raises PreventUpdate where nothing is.
        """
        if not shown:
            raise PreventUpdate
        last = fresh if fresh and fresh["address"] == shown["address"] else shown
        if self._store.snapshot().version <= max(last["version"], shown["version"]):
            raise PreventUpdate
        whole, context = self.frame(shown["address"])
        return _news(shown, whole, context.snapshot.version, parts(whole))

    def open_trial(self, clicks: Sequence[Mapping[str, Any] | None], address: str | None) -> str:
        """The address of the trial of a cell or a point that was clicked. Raises PreventUpdate where it has none."""
        view, _ = parse(address or "/")
        for click in clicks:
            for point in (click or {}).get("points", ()):
                key = point.get("customdata")
                key = key[0] if isinstance(key, list) and key else key
                if isinstance(key, str) and key in self._store.snapshot().keys:
                    return view.at("trial", trial=(key,)).href
        raise PreventUpdate

    def requested_rows(self, request: Mapping[str, Any] | None, address: str | None) -> dict[str, Any]:
        """The rows of the table of trials that have come into sight."""
        if not request:
            raise PreventUpdate
        view, _ = parse(address or "/")
        context = Context(view, self._store.snapshot(), self._store, Easel(self._drawings))
        try:
            listed = trials.listed(context)
        except RequestError:
            listed = context.trials.iloc[:0]
        model, _ = tables.column_filters(view, trials.columns(context))
        found, number = rows.asked_for(
            rows.on_screen(listed), {**request, "filterModel": request.get("filterModel") or model}
        )
        return {"rowData": rows.records(found, listed), "rowCount": number}

    def selection(self, selected: Sequence[Sequence[Mapping[str, Any]] | None], address: str | None) -> Children:
        """What can be done with the trials that are selected."""
        view, _ = parse(address or "/")
        keys = tuple(str(row["trial_key"]) for rows in selected for row in rows or () if "trial_key" in row)
        if len(keys) < 2:
            more = "one more trial" if keys else "trials in the first column"
            return f"Select {more} to compare."
        if len(keys) > compare.MOST_TRIALS:
            return f"{len(keys)} trials are selected; at most {compare.MOST_TRIALS} can be compared."
        return link(f"Compare {len(keys)} trials", view.at("compare", trial=keys).href, className="button")


def _news(shown: Mapping[str, Any], whole: Component, version: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    """For assets/live.js: the parts to bring up to date, or that they fit no more."""
    fits = shape(whole) == shown["shape"]
    return {"address": shown["address"], "version": version, "fits": fits, "parts": found if fits else []}


def make_app(store: LiveStore) -> Dash:
    """The application, ready to be served."""
    app = Dash(
        "laser_sweep.dashboard",
        assets_folder=str(Path(__file__).parent / "assets"),
        title="laser_sweep",
        update_title="",
        suppress_callback_exceptions=True,  # pages come and go
        add_log_handler=False,
    )
    app.layout = _layout(store)
    dashboard = Dashboard(store)
    app.callback(
        Output("frame", "children"),
        Output("shown", "data"),
        Output("search", "value"),
        Input("address", "href"),
        Input("again", "data"),
    )(dashboard.show)
    app.callback(
        Output("news", "data"),
        Input("tick", "n_intervals"),
        State("shown", "data"),
        State("fresh", "data"),
        prevent_initial_call=True,
    )(dashboard.follow)
    app.callback(Output("news", "data", allow_duplicate=True), Input("shown", "data"), prevent_initial_call=True)(
        dashboard.finish
    )
    app.callback(
        Output("address", "href"),
        Input(live_id(ALL, "chart"), "clickData"),
        State("address", "href"),
        prevent_initial_call=True,
    )(dashboard.open_trial)
    app.callback(
        Output(live_id("trials", "table"), "getRowsResponse"),
        Input(live_id("trials", "table"), "getRowsRequest"),
        State("address", "href"),
        prevent_initial_call=True,
    )(dashboard.requested_rows)
    app.callback(
        Output("selection", "children"),
        Input(live_id(ALL, "table"), "selectedRows"),
        State("address", "href"),
        prevent_initial_call=True,
    )(dashboard.selection)
    on_client: Any = app.clientside_callback  # which has no types
    on_client(
        ClientsideFunction("laser", "take"),
        Output("fresh", "data"),
        Output("again", "data"),
        Input("news", "data"),
        State("shown", "data"),
        prevent_initial_call=True,
    )
    on_client(
        ClientsideFunction("laser", "search"),
        Output("searched", "data"),
        Input("search", "value"),
        prevent_initial_call=True,
    )
    on_client(ClientsideFunction("laser", "arrived"), Output("arrived", "data"), Input("shown", "data"))
    return app


def _layout(store: LiveStore) -> Component:
    return html.Div(
        [
            html.A("Skip to the page", href="#main", className="skip"),
            dcc.Location(id="address", refresh="callback-nav"),
            dcc.Interval(id="tick", interval=int(1000 * FOLLOW_SECONDS)),
            *(dcc.Store(id=name) for name in ("shown", "fresh", "again", "news", "arrived", "searched")),
            html.Header(
                [
                    html.A("laser_sweep", href="/", className="brand"),
                    html.Code(str(store.root), title="the store"),
                    html.Label("Search trials", htmlFor="search", className="for-screen-readers"),
                    dcc.Input(id="search", type="search", debounce=0.5, placeholder="search trials"),
                    html.Button("Theme: automatic", id="theme", title="automatic, light or dark"),
                ],
                className="head",
            ),
            html.Div(id="frame"),
        ]
    )


def _nothing_yet(store: LiveStore) -> list[Children]:
    return [
        notice("Nothing here yet. This page follows the store: trials appear as they are stored."),
        html.P(
            [
                "A sweep that writes here: ",
                html.Code(f"python -m laser_sweep -m store.path={store.root} tau=each layer=each"),
            ]
        ),
    ]


def _way_out(view: View) -> Component:
    return html.P(
        [link("All trials", View(page="trials").href), " or ", link("all sweeps", View().href)], className="hint"
    )
