"""One trial: its figures of merit, every answer, and all that it was."""

from __future__ import annotations

from typing import Any

import pandas as pd
from dash import html
from dash.development.base_component import Component

from laser_sweep.analysis.comparisons import ComparisonView
from laser_sweep.analysis.flips import flip_counts, flips
from laser_sweep.analysis.frequency import gain_by_frequency
from laser_sweep.dashboard import tables, words
from laser_sweep.dashboard.charts import figure, figures, plain
from laser_sweep.dashboard.comparing import settings
from laser_sweep.dashboard.context import Context
from laser_sweep.dashboard.parts import Children, aria, cards, command, link, notice, plain_table, section, tabs
from laser_sweep.dashboard.rows import plain_rows
from laser_sweep.errors import RequestError
from laser_sweep.figures import flips as flips_chart
from laser_sweep.figures import gain_by_frequency as frequency_chart
from laser_sweep.figures import spectrum
from laser_sweep.figures.words import options_of, place_text, rho_text
from laser_sweep.measures import EPISODES, measures_of
from laser_sweep.store.overrides import rerun_command
from laser_sweep.store.stored import read_config

TITLE = "Trial"

_BINS = 4


def page(context: Context) -> list[Children]:
    keys = context.resolved()
    if not keys:
        raise RequestError("no trial is named: open one from a heat map or a table, or add ?trial=<key>")
    if len(keys) > 1:
        raise RequestError(f"{len(keys):,} trials are named and this page shows one; the page compare takes several")
    row = context.snapshot.trial(keys[0])
    home = context.snapshot.comparison_of(keys[0])
    return [
        _heading(context, row, home),
        notice(f"This trial failed: {row['error']}", kind="wrong") if row["status"] == "failed" else _merits(row),
        *_answers(context, row, home),
        *_spectra(context, row),
        _edits(row),
        _settings(context, row),
    ]


def _heading(context: Context, row: pd.Series[Any], home: ComparisonView) -> Component:
    untouched = home.untouched
    links = [link("heat maps of this comparison", context.view.at("heat-maps", comparison=home.key).href)]
    if untouched is not None and untouched["trial_key"] != row["trial_key"]:
        keys = (str(untouched["trial_key"]), str(row["trial_key"]))
        links.append(link("compare with the untouched model", context.view.at("compare", trial=keys).href))
    return html.Div(
        [
            html.H2(f"{'' if row['intervention'] == 'none' else row['intervention'] + ' '}{place_text(row)}"),
            html.P([f"{home.title} · sweep {row['sweep']} · ", html.Code(row["trial_key"])]),
            html.Nav(links, className="links", **aria(label="This trial elsewhere")),
        ],
        className="heading",
    )


def _merits(row: pd.Series[Any]) -> Component:
    measures = measures_of(row)
    items = [
        (measures.score.name, words.score(row), f"{words.whole(row['num_examples'])} {measures.example}s"),
        (measures.loss.name, words.loss(row), measures.loss.unit.strip()),
    ]
    if pd.notna(row["gain"]):
        items.insert(1, ("gain", words.gain(row), words.p_value(row["gain_p_value"])))
    items += [(name, words.share(row[column]), "") for column, name in words.SHARES.items() if pd.notna(row[column])]
    if pd.notna(row["parameters"]):
        items.append(("numbers kept", words.whole(row["parameters"]), "in the edited matrices"))
    total = row[["seconds_factor", "seconds_edit", "seconds_eval"]].fillna(0).sum()
    items.append(("time", words.seconds(total), f"{words.seconds(row['seconds_eval'])} of it evaluation"))
    return cards(items)


def _answers(context: Context, row: pd.Series[Any], home: ComparisonView) -> list[Children]:
    if row["status"] != "done":
        return []
    said = context.store.predictions(str(row["trial_key"]))
    if said.empty:
        return [section("Answers", notice("No predictions are stored for this trial."))]
    untouched = home.untouched
    if measures_of(row) is EPISODES:
        return [_episodes(context, row, untouched, said)]
    if untouched is None or untouched["trial_key"] == row["trial_key"]:
        return [_examples(context, said.assign(outcome=["right" if right else "wrong" for right in said["correct"]]))]
    before = context.store.predictions(str(untouched["trial_key"]))
    try:
        changed = flips(said, before)
    except ValueError as error:
        return [notice(f"Not held against the untouched model: {error}"), _examples(context, said)]
    counts = flip_counts(changed)
    drawn = [figure("flips", plain(flips_chart(counts)), context.view.href)]
    if changed["frequency"].notna().any():
        by_frequency = frequency_chart(gain_by_frequency(changed, _BINS))
        drawn.append(figure("frequency", plain(by_frequency), context.view.href))
    merged = said.assign(before=changed["before"].to_numpy(), outcome=changed["outcome"].to_numpy())
    return [
        section("Against the untouched model", figures(*drawn)),
        _examples(context, merged, counts),
    ]


def _episodes(context: Context, row: pd.Series[Any], untouched: pd.Series[Any] | None, said: pd.DataFrame) -> Component:
    """How each episode went, beside the untouched model's."""
    columns = [tables.text("example_id", "episode", pinned="left"), tables.text("gold", "target")]
    if untouched is not None and untouched["trial_key"] != row["trial_key"]:
        before = context.store.predictions(str(untouched["trial_key"]))[["example_id", "episode_return"]]
        said = said.merge(before.rename(columns={"episode_return": "before"}), on="example_id", how="left")
        said = said.assign(change=said["episode_return"] - said["before"])
        columns += [
            tables.number("before", "untouched got", EPISODES.score.decimals),
            tables.number("change", "change", EPISODES.score.decimals, signed=True),
        ]
    columns += [
        tables.number("episode_return", "return", EPISODES.score.decimals),
        tables.number("episode_length", "steps", 0),
        *([tables.text("success", "success")] if said["success"].notna().any() else []),
        *([tables.number("action_error", "action error", 4)] if said["action_error"].notna().any() else []),
    ]
    said = said.assign(success=said["success"].map({True: "yes", False: "no"}))
    names = [column["field"] for column in columns]
    view = context.view
    grid, wrong = tables.table("episodes", columns, plain_rows(said[names]), view, "episodes", key="example_id")
    return section("Episodes", notice(*wrong, kind="wrong") if wrong else None, grid)


def _examples(context: Context, said: pd.DataFrame, counts: dict[str, int] | None = None) -> Component:
    view = context.view
    wrong: list[str] = []
    choices: list[Children] = []
    if counts:
        shown = view.outcome
        if shown and shown not in counts:
            wrong.append(f"outcome={shown[:40]} is no outcome; there are {', '.join(counts)}")
            shown = ""
        chosen = [("all", view.changed(outcome="").href, not shown)]
        chosen += [
            (f"{name} ({number:,})", view.changed(outcome=name).href, name == shown) for name, number in counts.items()
        ]
        choices = [tabs("Examples", chosen)]
        said = said[said["outcome"].eq(shown)] if shown else said
    columns = [tables.text("example_id", "example", pinned="left"), tables.text("gold", "gold")]
    if "before" in said:
        columns.append(tables.text("before", "untouched said"))
    columns += [
        tables.text("prediction", "said", minWidth=160),
        tables.badges(tables.text("outcome", "outcome")),
        tables.number("gold_log_prob", "log p(gold)", 3),
        tables.number("gold_rank", "rank of gold", 0),
    ]
    columns += [tables.text(name, name) for name in ("group", "subject", "relation") if said[name].notna().any()]
    columns += [tables.number(name, name) for name in ("f1", "frequency") if said[name].notna().any()]
    names = [column["field"] for column in columns if column["field"] in said]
    grid, unreadable = tables.table("examples", columns, plain_rows(said[names]), view, "examples", key="example_id")
    wrong += unreadable
    return section("Examples", *choices, notice(*wrong, kind="wrong") if wrong else None, grid)


def _spectra(context: Context, row: pd.Series[Any]) -> list[Children]:
    """The spectrum of the edited matrix, where a search looked at it before."""
    if pd.isna(row["tau"]) or pd.isna(row["layer"]) or len(row["edits"]) != 1:
        return []
    found = context.store.spectra()
    same = found["model_revision"].eq(row["model_revision"]) & found["dtype"].eq(row["dtype"])
    found = found[same & found["tau"].eq(row["tau"]) & found["layer"].eq(row["layer"])]
    if found.empty:
        return []
    probed = found.sort_values(["dataset", "finished_at"], na_position="first").iloc[-1]
    return [
        section("The matrix before the edit", figures(figure("spectrum", plain(spectrum(probed)), context.view.href)))
    ]


def _edits(row: pd.Series[Any]) -> Component | None:
    edits = list(row["edits"])
    if not edits:
        return None
    header = ("matrix", "ρ", "method", "options", "rank", "numbers kept")
    lines = [
        (
            f"{edit['tau']}[{edit['layer']}]",
            rho_text(edit["rho"]),
            edit["method"],
            ", ".join(f"{name}={value}" for name, value in options_of([edit]).items()) or words.NOTHING,
            words.whole(edit["rank"]),
            words.whole(edit.get("parameters")),
        )
        for edit in edits
    ]
    return section("What was edited", plain_table(header, lines, "edited matrices"))


def _settings(context: Context, row: pd.Series[Any]) -> Component:
    config = read_config(row["config_json"])
    line = rerun_command(config, str(context.store.root), resume="errored") if config else None
    lines = [(name, value) for name, value in settings(row).items()]
    lines += [("started", words.moment(row["started_at"])), ("finished", words.moment(row["finished_at"]))]
    return section(
        "How it was made",
        None if line is None else html.P("The sweep that it belongs to, run again for what failed or is missing:"),
        None if line is None else command(line, "rerun"),
        html.Details(
            [html.Summary("All settings"), plain_table(("setting", "value"), lines, "settings")], id="settings"
        ),
    )
