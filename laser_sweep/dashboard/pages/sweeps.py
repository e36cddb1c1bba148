"""All sweeps of the store, and how far they have come."""

from __future__ import annotations

from typing import Any

import pandas as pd
from dash import html
from dash.development.base_component import Component

from laser_sweep.dashboard import tables, words
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.parts import Children, cards, notice, section
from laser_sweep.dashboard.progress import Progress, progress
from laser_sweep.dashboard.tables import Row
from laser_sweep.dashboard.url import View
from laser_sweep.figures.words import count, place_text
from laser_sweep.measures import ANSWERS, Measure, measures_of

TITLE = "Sweeps"


def page(context: Context) -> list[Children]:
    found = progress(context.snapshot.trials, context.passing)
    if not found:
        return [notice("No trial passes the filters.")]
    grid, wrong = _table(found, context.view)
    explanation = html.P(
        "Missing are the cells of a grid that nothing in the store has; where every layer was asked for, those up to "
        "the highest that was seen yet. A search that chooses its trials asks for no grid. "
        "± is one standard error; the gain is in points, of episodes in return.",
        className="hint",
    )
    return [
        notice(*wrong, kind="wrong") if wrong else None,
        _summary(context, found),
        section("All sweeps", grid, explanation),
    ]


def _summary(context: Context, found: list[Progress]) -> Component:
    trials = context.trials
    failed = int(trials["status"].eq("failed").sum())
    missing = [one for one in found if one.missing]
    at_least = "at least " if any(one.at_least for one in missing) else ""
    last = max(one.last for one in found)
    return cards(
        [
            (
                "trials",
                f"{len(trials):,}",
                f"{count(trials['model'].nunique(), 'model')}, {count(trials['dataset'].nunique(), 'data set')}",
            ),
            ("failed", f"{failed:,}", f"{100 * failed / len(trials):.1f} % of those that ran"),
            ("missing", f"{at_least}{sum(one.missing or 0 for one in missing):,}", _where(missing)),
            ("last result", words.ago(last), words.moment(last)),
        ]
    )


def _where(missing: list[Progress]) -> str:
    return "in " + count(len(missing), "grid") if missing else "every grid is whole"


def _table(found: list[Progress], view: View) -> tuple[Component, list[str]]:
    scores = {measures_of(one.best).score for one in found if one.best is not None}
    percent = " %" if all(score.unit for score in scores) else ""
    digits = max((score.decimals for score in scores), default=1)
    columns = [
        tables.filtering(tables.text("sweep", "sweep", pinned="left"), view),
        tables.filtering(tables.text("model", "model"), view),
        tables.filtering(tables.text("dataset", "data set"), view),
        tables.text("progress", "progress", cellRenderer="LaserProgress", minWidth=150),
        tables.with_error("best", "best_stderr", f"best val{percent}", digits),
        tables.number("gain", "gain", digits, signed=True),
        tables.linked(tables.text("edit", "with"), view.at("trial").open("trial"), by="best_key"),
        tables.with_error("test", "test_stderr", f"on test{percent}", digits),
        tables.number("failed", "failed", 0),
        tables.number("missing", "missing", 0),
        tables.text("last", "last result (UTC)", minWidth=160),
        tables.text("search", "search"),
    ]
    return tables.table("sweeps", columns, [_row(one) for one in found], view, "sweeps", key="key")


def _row(one: Progress) -> Row:
    total = one.done + one.failed + (one.missing or 0)
    best, test = one.best, one.confirmed
    score = (ANSWERS if best is None else measures_of(best)).score
    return {
        "key": "\n".join((one.sweep, one.model, one.dataset)),
        "sweep": one.sweep,
        "model": one.model,
        "dataset": one.dataset,
        "search": ", ".join(one.searches),
        "progress": f"{one.done + one.failed:,}"
        + (f" of {'≥ ' if one.at_least else ''}{total:,}" if one.missing is not None else ""),
        "share_done": one.done / total,
        "share_failed": one.failed / total,
        "failed": one.failed,
        "missing": one.missing,
        "best": _scaled(best, score.column, score),
        "best_stderr": _scaled(best, score.stderr, score),
        "gain": _scaled(best, "gain", score),
        "edit": "" if best is None else place_text(best),
        "best_key": None if best is None else best["trial_key"],
        "test": _scaled(test, score.column, score),
        "test_stderr": _scaled(test, score.stderr, score),
        "last": f"{one.last:%Y-%m-%d %H:%M:%S}",
    }


def _scaled(row: pd.Series[Any] | None, column: str, measure: Measure) -> float | None:
    """A figure as a person reads it, None where there is none."""
    return None if row is None or pd.isna(row[column]) else measure.scale * float(row[column])
