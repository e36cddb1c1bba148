"""`failures`: failed trials by reason, and the commands that run them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from laser_sweep.store.commands.screen import cells, count, make_table, named, print_json, say
from laser_sweep.store.overrides import rerun_command
from laser_sweep.store.reader import read_trials
from laser_sweep.store.stored import kind_of_error, python_row, read_config, stored_trial

Row = Mapping[str, Any]
_SHOWN = 6


def failures(store: str, console: Console, as_json: bool) -> None:
    """A table of the trials of each reason; one command for each configuration, whose other trials are stored."""
    trials = read_trials(store)
    rows: list[Row] = [python_row(row) for _, row in trials[trials["status"].eq("failed")].iterrows()]
    reasons: dict[str, list[Row]] = {}
    for row in rows:
        reasons.setdefault(kind_of_error(row["error"]), []).append(row)
    by_number: list[list[Row]] = sorted(reasons.values(), key=len, reverse=True)
    if as_json:
        print_json([_plain(same, store) for same in by_number])
        return
    if not rows:
        say(console, f"none of {count(len(trials), 'trial')} failed")
        return
    for same in by_number:
        say(console, f"{count(len(same), 'trial')}: {same[0]['error']}", style="red")
        table = make_table(("trial", "model", "dataset", "split", "intervention", "edit", "worker", "device"))
        for row in same[:_SHOWN]:
            labels = [row[name] for name in ("trial_key", "model", "dataset", "split", "intervention")]
            table.add_row(*cells([*labels, named(stored_trial(row)), row["worker"], row["device"]]))
        if len(same) > _SHOWN:
            table.add_row(*cells([f"and {len(same) - _SHOWN:,} more"]))
        console.print(table)
    say(console, "to run them again:")
    for command in _commands(rows, store):
        say(console, f"  {command}")


def _commands(rows: Iterable[Row], store: str) -> list[str]:
    """One for each configuration, in the order of the rows."""
    configs = [read_config(row["config_json"]) for row in rows]
    return list(dict.fromkeys(rerun_command(config, store, resume="errored") for config in configs if config))


def _plain(rows: Sequence[Row], store: str) -> dict[str, Any]:
    labels = ("trial_key", "model", "dataset", "split", "intervention", "tau", "layer", "rho")
    names = (*labels, "error", "attempt", "worker", "device")
    trials = [{**{name: row[name] for name in names}, "what": stored_trial(row).describe()} for row in rows]
    return {"error": rows[0]["error"], "count": len(rows), "trials": trials, "commands": _commands(rows, store)}
