"""`show`: the trials of a store, or one trial in full."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from laser_sweep.errors import RequestError, listing
from laser_sweep.measures import ANSWERS, KINDS, Measures, measures_of
from laser_sweep.store.commands.screen import cells, count, make_table, percent, say, shown
from laser_sweep.store.reader import find_trial, read_trials
from laser_sweep.store.stored import python_row, read_config, stored_trial

_LABELS = ("trial_key", "model", "dataset", "split", "examples", "intervention", "τ", "ℓ", "ρ", "status")
_NUMBERS = ("examples", "ℓ", "ρ")
_FIGURES = (
    ("majority accuracy %", "majority_accuracy"),
    ("balanced accuracy %", "balanced_accuracy"),
    ("top-1 %", "top1_accuracy"),
    ("top-5 %", "top5_accuracy"),
    ("top-10 %", "top10_accuracy"),
    ("F1 %", "f1"),
    ("groups all right %", "group_accuracy"),
    ("success %", "success_rate"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which trials are listed: those whose columns have these values, of which the first `limit`."""

    model: str | None = None
    dataset: str | None = None
    split: str | None = None
    tau: str | None = None
    status: str | None = None
    limit: int | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are looked at."""
        names = ("model", "dataset", "split", "tau", "status")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def show_list(store: str, filters: Filters, console: Console) -> None:
    """A row for each trial, best on val first."""
    if filters.limit is not None and filters.limit < 1:
        raise RequestError(f"--limit={filters.limit} shows nothing; give 1 or more rows")
    trials = read_trials(store)
    found = trials
    for name, value in filters.columns.items():
        found = found[found[name].eq(value)]
    if found.empty:
        asked = " ".join(f"--{name}={value}" for name, value in filters.columns.items())
        there = [f"{name} {listing(sorted(trials[name].dropna().unique()))}" for name in filters.columns]
        say(console, f"none of {count(len(trials), 'trial')} is {asked}; there are {'; '.join(there)}")
        return
    rows = found.head(filters.limit) if filters.limit else found
    note = f"the first {len(rows):,} of {len(found):,}" if len(rows) < len(found) else ""
    listed = [python_row(row) for _, row in rows.iterrows()]
    finished = [row for row in listed if row["status"] == "done"]
    kinds = [kind for kind in KINDS if any(measures_of(row) is kind for row in finished)] or [ANSWERS]
    figures = (*(kind.score.heading for kind in kinds), "gain")
    table = make_table((*_LABELS, *figures), (*_NUMBERS, *figures), caption=note)
    for row in listed:
        table.add_row(*cells(_line(row, kinds)))
    console.print(table)


def _line(row: Mapping[str, Any], kinds: Sequence[Measures]) -> list[object]:
    """The row of a trial in the list; `kinds` of trials have a column each for their scores."""
    asked, edits = row["num_examples"], row["edits"]
    layer = "all" if row["layer"] is None and row["tau"] is not None else row["layer"]
    return [
        *(row[name] for name in ("trial_key", "model", "dataset", "split")),
        None if asked is None else f"{asked:,}",
        row["intervention"],
        f"{len(edits)} edits" if edits and row["tau"] is None else row["tau"],
        layer,
        *(row[name] for name in ("rho", "status")),
        *(kind.score.number(row[kind.score.column]) for kind in kinds),
        measures_of(row).score.change(row["gain"]) if edits else "",
    ]


def show_trials(store: str, keys: Sequence[str], console: Console) -> None:
    """Each of these trials in full."""
    for row in [python_row(find_trial(store, key)) for key in keys]:
        _show_trial(row, console)


def _show_trial(row: Mapping[str, Any], console: Console) -> None:
    trial = stored_trial(row)
    say(console, f"trial {trial.key}: {trial.describe()} ({row['status']})", style="bold")
    for name, value in _facts(row):
        say(console, f"  {name:<12}{value}")
    if row["edits"]:
        console.print(_edits(row))
    if row["status"] == "done":
        console.print(_metrics(row))
    say(console, "configuration", style="bold")
    config = read_config(row["config_json"])
    say(console, yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "(none)")


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    limit, skipped = row["limit"], row["num_skipped"]
    examples = [f"{row['dataset']}, {row['split']}"]
    examples += [] if row["num_examples"] is None else [f"{row['num_examples']:,} asked"]
    examples += [] if limit is None else [f"limit {limit:,}"]
    examples += [f"{skipped:,} could not be asked"] if skipped else []
    parts = {name: row[f"seconds_{name}"] for name in ("factor", "edit", "eval")}
    seconds = [f"{name} {value:.3g} s" for name, value in parts.items() if value is not None]
    facts = [
        ("model", f"{row['model']}, revision {row['model_revision']}, {row['dtype']}"),
        ("examples", ", ".join(examples)),
        ("sweep", shown(row["sweep"])),
        ("ran", f"attempt {shown(row['attempt'])} on {row['worker'] or '?'} ({row['device'] or '?'})"),
        ("from", f"{_time(row['started_at'])} to {_time(row['finished_at'])}"),
        ("took", ", ".join(seconds)),
    ]
    return facts + ([("error", row["error"])] if row["error"] else [])


def _time(moment: pd.Timestamp | None) -> str:
    return "?" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _edits(row: Mapping[str, Any]) -> Table:
    numbers = ("ρ", "rank", "numbers", "row blocks")
    table = make_table(("matrix", "method", "options", *numbers), numbers, "edits")
    for edit in row["edits"]:
        options = json.loads(edit.get("options") or "{}")
        blocks = edit.get("row_clusters")
        parameters = edit.get("parameters")
        table.add_row(
            *cells([f"{edit['tau']}[{edit['layer']}]", edit["method"]]),
            *cells([" ".join(f"{name}={value}" for name, value in options.items())]),
            *cells([edit["rho"], edit["rank"], None if parameters is None else f"{parameters:,}"]),
            *cells([None if blocks is None else len(set(blocks))]),
        )
    return table


def _metrics(row: Mapping[str, Any]) -> Table:
    table = make_table(("", " "), (" ",), "metrics")
    table.show_header = False
    measures = measures_of(row)
    score, loss = measures.both
    table.add_row(*cells([score.heading, score.number(row[score.column], row[score.stderr])]))
    if row[loss.column] is not None:
        table.add_row(*cells([loss.name, f"{row[loss.column]:.4f}"]))
    for heading, name in _FIGURES:
        if row[name] is not None:
            table.add_row(*cells([heading, percent(row[name])]))
    if row["gain"] is not None:
        table.add_row(*cells([f"gain{',' if score.points else ''}{score.points}", score.change(row["gain"])]))
        table.add_row(*cells([f"p ({measures.test.removesuffix(' test')})", f"{row['gain_p_value']:.2g}"]))
    counts = row["prediction_counts"]
    if counts:
        table.add_row(*cells(["said", ", ".join(f"{label} {number:,}" for label, number in counts)]))
    return table
