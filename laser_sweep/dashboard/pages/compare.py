"""Trials, sweeps or models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from dash import html
from dash.development.base_component import Component

from laser_sweep.dashboard import tables, words
from laser_sweep.dashboard.comparing import (
    Against,
    LivePairs,
    against_first,
    differing,
    disagreements,
    episodes_side_by_side,
    settings,
    side_by_side,
)
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.pages import compare_groups
from laser_sweep.dashboard.parts import Children, link, live_text, notice, plain_table, section, tabs
from laser_sweep.dashboard.rows import plain_rows
from laser_sweep.errors import RequestError
from laser_sweep.figures.words import place_text
from laser_sweep.measures import ANSWERS, EPISODES, Measures, measures_of

TITLE = "Compare"

MOST_TRIALS = 12
"""More columns than this are not read side by side."""
_MERITS = (
    *((name, column, words.share) for column, name in words.SHARES.items()),
    ("examples", "num_examples", words.whole),
    ("numbers kept", "parameters", words.whole),
    ("seconds of evaluation", "seconds_eval", words.seconds),
)


def page(context: Context) -> list[Children]:
    view = context.view
    if view.by is not None:
        return compare_groups.page(context)
    keys = context.resolved()
    if not keys:
        return [
            notice("Choose what to compare: select trials in the table of trials, or"),
            *compare_groups.offers(context),
        ]
    if len(keys) == 1:
        raise RequestError("one trial is named; a comparison takes two or more")
    if len(keys) > MOST_TRIALS:
        raise RequestError(f"{len(keys):,} trials are named; at most {MOST_TRIALS} can be read side by side")
    rows = [context.snapshot.trial(key) for key in keys]
    against = against_first(rows, context.store)
    return [
        section("Figures of merit", _merits(context, rows, against)),
        section("What differs", *_differences(context, rows)),
        section("Answers", *_answers(context, rows, against)),
    ]


def _names(rows: Sequence[pd.Series[Any]]) -> list[str]:
    """What tells the trials apart in a heading: their edits, and more where these are alike."""
    names = [place_text(row) for row in rows]
    for column in ("model", "dataset", "split", "sweep", "limit", "trial_key"):
        if len(set(names)) == len(names):
            break
        if len({str(row[column]) for row in rows}) > 1:
            names = [f"{name} · {row[column]}" for name, row in zip(names, rows, strict=True)]
    return names


def _merits(context: Context, rows: Sequence[pd.Series[Any]], against: Sequence[Against]) -> Component:
    view, pairs, measures = context.view, LivePairs(context.store), measures_of(rows[0])
    only = "only this one right / only the reference" if measures is ANSWERS else "higher here / higher there"
    keys = [str(row["trial_key"]) for row in rows]
    header: list[Children] = ["trial"]
    for place, (key, name) in enumerate(zip(keys, _names(rows), strict=True)):
        others = tuple(one for one in keys if one != key)
        actions = [link("without it", view.changed(trial=others).href, className="minor")] if len(keys) > 2 else []
        if place:
            actions.insert(0, link("make it the reference", view.changed(trial=(key, *others)).href, className="minor"))
        header.append(
            html.Span([link(name, view.at("trial", trial=(key,)).href), html.Br(), html.Small(actions or "reference")])
        )
    lines: list[Sequence[Children]] = [
        (
            measures.score.name,
            *[live_text(f"score-{key}", words.score(row)) for key, row in zip(keys, rows, strict=True)],
        ),
        (
            measures.loss.name,
            *(words.loss_with_error(row, pairs.loss_stderr(key)) for key, row in zip(keys, rows, strict=True)),
        ),
        ("gain over the untouched model", *(words.gain(row) for row in rows)),
        ("p of that gain", *(words.p_value(row["gain_p_value"]) for row in rows)),
        (
            f"against the reference, on the same {measures.example}s",
            "",
            *(_paired(one, measures) for one in against),
        ),
        (
            html.Span(["p of that", html.Br(), html.Small(f"{measures.test.removesuffix(' test')}, corrected (Holm)")]),
            "",
            *map(_p_value, against),
        ),
        (only, "", *map(_discordant, against)),
    ]
    lines += [
        (name, *(write(row[column]) for row in rows))
        for name, column, write in _MERITS
        if any(pd.notna(row[column]) for row in rows)
    ]
    return plain_table(header, lines, "figures of merit", className="compared")


def _paired(one: Against, measures: Measures) -> Children:
    if isinstance(one.pair, str):
        return html.Small(one.pair)
    alone = sum(one.pair.alone)
    left_out = f", {alone:,} that only one was asked left out" if alone else ""
    return html.Span(
        [
            words.paired(one.pair.gain, measures.score),
            html.Br(),
            html.Small(f"{one.pair.num_examples:,} {measures.example}s{left_out}"),
        ]
    )


def _p_value(one: Against) -> str:
    return words.p_value(one.p_value)


def _discordant(one: Against) -> str:
    return "" if isinstance(one.pair, str) else f"{one.pair.gain.wins:,} / {one.pair.gain.losses:,}"


def _differences(context: Context, rows: Sequence[pd.Series[Any]]) -> list[Children]:
    view = context.view
    found = differing([settings(row) for row in rows], everything=view.everything)
    choice = tabs(
        "Settings",
        [
            ("only what differs", view.changed(everything=False).href, not view.everything),
            ("everything", view.changed(everything=True).href, view.everything),
        ],
    )
    if not found:
        return [choice, notice("These trials differ in nothing that is stored.")]
    lines = [(name, *values) for name, values in found.items()]
    return [choice, plain_table(["setting", *_names(rows)], lines, "settings", className="compared")]


def _answers(context: Context, rows: Sequence[pd.Series[Any]], against: Sequence[Against]) -> list[Children]:
    view = context.view
    if any(isinstance(one.pair, str) for one in against):
        return [notice("Not all of these trials were asked the same examples, so that their answers do not pair.")]
    if measures_of(rows[0]) is EPISODES:
        return _episodes(context, rows)
    everything = view.outcome == "all"
    joined = side_by_side([context.store.predictions(str(row["trial_key"])) for row in rows])
    differ = disagreements(joined, len(rows))
    choice = tabs(
        "Examples",
        [
            (f"where one is right and another wrong ({len(differ):,})", view.changed(outcome="").href, not everything),
            (f"all ({len(joined):,})", view.changed(outcome="all").href, everything),
        ],
    )
    joined = joined if everything else differ
    columns = [
        tables.text("example_id", "example", pinned="left"),
        tables.text("gold", "gold"),
        tables.number("right", "right", 0),
    ]
    for place, name in enumerate(_names(rows)):
        said_it = tables.text(f"said_{place}", f"{name} said", minWidth=150)
        columns.append(
            {
                **said_it,
                "cellClassRules": {"right": f"params.data.right_{place}", "wrong": f"!params.data.right_{place}"},
            }
        )
        columns.append(tables.number(f"log_prob_{place}", "log p(gold)", 3))
    columns += [tables.text(name, name) for name in ("subject", "relation") if joined[name].notna().any()]
    grid, wrong = tables.table("answers", columns, plain_rows(joined), view, "answers", key="example_id")
    return [choice, notice(*wrong, kind="wrong") if wrong else None, grid]


def _episodes(context: Context, rows: Sequence[pd.Series[Any]]) -> list[Children]:
    """What each trial got in every episode."""
    joined = episodes_side_by_side([context.store.predictions(str(row["trial_key"])) for row in rows])
    columns = [tables.text("example_id", "episode", pinned="left"), tables.text("gold", "target")]
    for place, name in enumerate(_names(rows)):
        columns.append(tables.number(f"return_{place}", f"{name}: return", 1, minWidth=150))
        columns.append(tables.number(f"length_{place}", "steps", 0))
    grid, wrong = tables.table("answers", columns, plain_rows(joined), context.view, "episodes", key="example_id")
    return [notice(*wrong, kind="wrong") if wrong else None, grid]
