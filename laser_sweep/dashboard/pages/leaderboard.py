"""The best edit of each model on each data set, confirmed on test, beside what was published."""

from __future__ import annotations

from typing import Any

import pandas as pd
from dash import html
from dash.development.base_component import Component

from laser_sweep.analysis.leaderboard import leaderboard
from laser_sweep.dashboard import tables
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.parts import Children, link, notice, tabs
from laser_sweep.dashboard.tables import Row
from laser_sweep.figures.words import place_text
from laser_sweep.measures import EPISODES

TITLE = "Leaderboard"

_PERCENT = {
    "accuracy": "accuracy",
    "stderr": "stderr",
    "published": "published_accuracy",
    "published_stderr": "published_stderr",
    "difference": "difference",
}


def page(context: Context) -> list[Children]:
    view = context.view
    found = leaderboard(context.trials, everything=view.everything)
    choice = tabs(
        "Rows",
        [
            ("measured here", view.changed(everything=False).href, not view.everything),
            ("all that was published", view.changed(everything=True).href, view.everything),
        ],
    )
    explanation = html.P(
        "The edit is the best one on val, measured on test, of those that pass the filters. ± is one standard error; a "
        "result agrees with the published one where both are within two standard errors of their difference.",
        className="hint",
    )
    if found.empty:
        missing = notice("Nothing was measured on test yet. A sweep confirms its winner on test when it ends.")
        return [choice, missing, html.P(link("The best on val so far", view.at("sweeps").href))]
    grid, wrong = _table(found, context)
    return [choice, notice(*wrong, kind="wrong") if wrong else None, grid, explanation]


def _table(found: pd.DataFrame, context: Context) -> tuple[Component, list[str]]:
    view = context.view
    episodes = bool(found["mean_return"].notna().any())
    answers = not episodes or bool(found["accuracy"].notna().any())
    digits = EPISODES.score.decimals
    columns = [
        tables.filtering(tables.text("model", "model", pinned="left"), view),
        tables.filtering(tables.text("dataset", "data set", pinned="left"), view),
        tables.text("which", "which"),
        *([tables.with_error("accuracy", "stderr", "ours, test %", 1)] if answers else []),
        *([tables.with_error("mean_return", "stderr", "ours, test return", digits)] if episodes else []),
        tables.with_error("published", "published_stderr", "published %", 1),
        tables.number("difference", "difference", 1, signed=True),
        tables.badges(tables.text("agrees", "agrees")),
        tables.linked(tables.text("edit", "our edit"), view.at("trial").open("trial"), by="trial_key"),
        tables.text("published_edit", "published edit"),
        *([tables.number("log_loss", "log-loss", 3)] if answers else []),
        *([tables.number("action_error", "action error", 4)] if episodes else []),
        tables.number("num_examples", "examples", 0),
        tables.text("source", "source"),
    ]
    rows = [_row(row, context) for _, row in found.iterrows()]
    return tables.table("leaderboard", columns, rows, view, "leaderboard", key="key")


def _row(row: pd.Series[Any], context: Context) -> Row:
    key = row["trial_key"]
    known = isinstance(key, str)
    copied = {
        name: _value(row[name])
        for name in (
            "model",
            "dataset",
            "which",
            "log_loss",
            "mean_return",
            "action_error",
            "num_examples",
            "published_edit",
            "source",
        )
    }
    percents = {name: None if pd.isna(row[column]) else 100 * float(row[column]) for name, column in _PERCENT.items()}
    if pd.notna(row["mean_return"]):
        percents["stderr"] = _value(row["stderr"])
    agrees = row["agrees"]
    return {
        **copied,
        **percents,
        "key": "\n".join(str(row[name]) for name in ("model", "dataset", "dtype", "model_revision", "which")),
        "trial_key": key if known else None,
        "edit": place_text(context.snapshot.trial(key)) if known else "",
        "agrees": None if agrees is None or pd.isna(agrees) else "yes" if agrees else "no",
    }


def _value(value: Any) -> Any:
    return None if value is None or pd.isna(value) else value
