"""Sweeps or models side by side: the best trial of each on every data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, get_args

import pandas as pd
from dash import html
from dash.development.base_component import Component

from laser_sweep.analysis.comparisons import comparisons
from laser_sweep.dashboard import words
from laser_sweep.dashboard.comparing import against_first
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.parts import Children, aria, link, notice, plain_table, section
from laser_sweep.dashboard.url import Group, View
from laser_sweep.errors import RequestError, suggestion
from laser_sweep.figures.words import place_text
from laser_sweep.measures import measures_of

Best: TypeAlias = Mapping[str, "pd.Series[Any]"]
"""The best trial of each group."""


def page(context: Context) -> list[Children]:
    view = context.view
    by = view.by or "sweep"
    known = context.snapshot.index.values(by)
    for name in view.of:
        if name not in known:
            raise RequestError(f"of={name[:80]}: no {by} of this store has this name{suggestion(name, known)}")
    if len(view.of) < 2:
        return [_offer(context, by)]
    trials = context.trials
    found: list[Children] = [_offer(context, by)]
    for dataset, rows in trials[trials[by].isin(view.of)].groupby("dataset", sort=True):
        for split in ("val", "test"):
            best = _best(rows[rows["split"].eq(split)], by, view.of)
            if len(best) > 1:
                found.append(section(f"{dataset}, {split}", *_side_by_side(context, best, by)))
    if len(found) == 1:
        found.append(notice("No two of these have finished trials on the same data set that pass the filters."))
    return found


def offers(context: Context) -> list[Children]:
    """What there is to compare besides trials."""
    return [_offer(context, by) for by in get_args(Group)]


def _offer(context: Context, by: Group) -> Component:
    """Links that put each sweep or model among those that are compared, or take it away."""
    view = context.view
    chosen = view.of if view.by == by else ()
    links = []
    for name in context.snapshot.index.values(by):
        here = name in chosen
        of = tuple(one for one in chosen if one != name) if here else (*chosen, name)
        links.append(
            html.Li(
                link(
                    name,
                    View(page="compare", filters=view.filters, by=by, of=of).href,
                    place=f"of:{by}:{name}",
                    **aria(current="true" if here else None),
                )
            )
        )
    return section(f"{by.capitalize()}s to compare", html.Ul(links, className="chips"))


def _best(rows: pd.DataFrame, by: Group, of: Sequence[str]) -> Best:
    """On most examples, where a search looked at parts of the split on its way."""
    found = {}
    for name in of:
        views = [one for one in comparisons(rows[rows[by].eq(name)]) if one.winner() is not None]
        if views:
            winner = max(views, key=lambda one: one.num_examples or 0).winner()
            assert winner is not None
            found[name] = winner
    return found


def _side_by_side(context: Context, best: Best, by: Group) -> list[Children]:
    names, rows = list(best), list(best.values())
    measures = measures_of(rows[0])
    keys = tuple(str(row["trial_key"]) for row in rows)
    paired = ["reference"]
    for one in against_first(rows, context.store):
        if isinstance(one.pair, str):
            paired.append(one.pair)
        else:
            paired.append(f"{words.paired(one.pair.gain, measures.score)}, {words.p_value(one.p_value)}")
    lines: list[Sequence[Children]] = [
        (
            "best trial",
            *(
                link(place_text(row), context.view.at("trial", trial=(key,)).href)
                for key, row in zip(keys, rows, strict=True)
            ),
        ),
        (measures.score.name, *(words.score(row) for row in rows)),
        (measures.loss.name, *(words.loss(row) for row in rows)),
        (
            "gain over the untouched model",
            *(f"{words.gain(row)}, {words.p_value(row['gain_p_value'])}" for row in rows),
        ),
        ("examples", *(words.whole(row["num_examples"]) for row in rows)),
        (f"against the reference, on the same {measures.example}s", *paired),
    ]
    more = link("their answers side by side", context.view.at("compare", trial=keys).href) if len(keys) > 1 else None
    return [
        plain_table([by, *names], lines, f"best trials by {by}", className="compared"),
        html.P(more) if more else None,
    ]
