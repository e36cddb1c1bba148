"""What failed, why, and the commands that run it again."""

from __future__ import annotations

import pandas as pd
from dash import html
from dash.development.base_component import Component

from laser_sweep.dashboard import tables, words
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.live import live
from laser_sweep.dashboard.parts import Children, command, notice, section
from laser_sweep.figures.words import count, place_text
from laser_sweep.store.overrides import rerun_command
from laser_sweep.store.stored import kind_of_error, read_config

TITLE = "Failures"

_SHOWN = 200  # characters of an error in a heading
_MOST = 20  # sweeps with a command each


def page(context: Context) -> list[Children]:
    failed = context.trials[context.trials["status"].eq("failed")]
    if failed.empty:
        return [notice("Nothing has failed among these trials.")]
    grid, wrong = _table(failed, context)
    return [
        notice(*wrong, kind="wrong") if wrong else None,
        section("Run them again", *_commands(failed, context)),
        section("Reasons", live("reasons", html.Ul(_reasons(failed), className="reasons"))),
        section("Failed trials", grid),
    ]


def _kind(error: object) -> str:
    return kind_of_error(error if isinstance(error, str) else None)[:_SHOWN]


def _reasons(failed: pd.DataFrame) -> list[Component]:
    kinds = failed["error"].map(_kind).value_counts()
    return [html.Li([html.Strong(count(int(number), "trial")), f": {kind}"]) for kind, number in kinds.items()]


def _commands(failed: pd.DataFrame, context: Context) -> list[Children]:
    """One for each configuration that has failures."""
    found: list[Children] = [
        html.P(
            "Each runs what failed in one sweep, and whatever is missing; finished trials are reused. Run it where the "
            "sweep was run if its configuration names files by relative paths."
        )
    ]
    groups = failed.groupby(["config_json", "sweep", "model", "dataset"], sort=False)
    for number, ((config, sweep, model, dataset), rows) in enumerate(groups):
        if number == _MOST:
            found.append(html.P(f"and {len(groups) - _MOST:,} more; filter to see their commands"))
            break
        found.append(html.P(f"{sweep}, {model} on {dataset}: {count(len(rows), 'failure')}"))
        values = read_config(str(config))
        if values:
            found.append(command(rerun_command(values, str(context.store.root), resume="errored"), str(number)))
        else:
            found.append(notice("Its configuration cannot be read."))
    return found


def _table(failed: pd.DataFrame, context: Context) -> tuple[Component, list[str]]:
    view = context.view
    columns = [
        tables.linked(tables.text("place", "edit", pinned="left"), view.at("trial").open("trial"), by="key"),
        tables.text("error", "reason", minWidth=420),
        tables.filtering(tables.text("sweep", "sweep"), view),
        tables.filtering(tables.text("model", "model"), view),
        tables.filtering(tables.text("dataset", "data set"), view),
        tables.filtering(tables.text("split", "split"), view),
        tables.number("attempt", "attempts", 0),
        tables.text("worker", "worker"),
        tables.text("device", "device"),
        tables.text("finished", "when"),
    ]
    rows = [
        {
            "key": row["trial_key"],
            "place": place_text(row),
            "finished": words.moment(row["finished_at"]),
            **{
                name: row[name]
                for name in ("error", "sweep", "model", "dataset", "split", "attempt", "worker", "device")
            },
        }
        for _, row in failed.iterrows()
    ]
    return tables.table("failed", columns, rows, view, "failed trials", key="key")
