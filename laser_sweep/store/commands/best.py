"""`best`: the untouched model and the best trial of each model and data set."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from laser_sweep.measures import measures_of
from laser_sweep.store.commands.screen import cells, count, make_table, named, print_json, say, short_p
from laser_sweep.store.stored import stored_trial
from laser_sweep.store.winners import Standing, Winner, winners


def best(store: str, console: Console, as_json: bool) -> None:
    """The best by score on val, ties by loss, as a sweep picks it, and what was measured of it on test."""
    found = winners(store)
    if as_json:
        print_json([_plain(winner) for winner in found])
        return
    if not found:
        say(console, "no trial on val has finished")
    for winner in found:
        console.print(_table(winner))
        if winner.loses:
            say(console, "  no edit is better than the untouched model")
        if winner.best is not None and winner.best_on_test is None:
            say(console, "  the best trial was not measured on test; a sweep does so at its end")


def _table(winner: Winner) -> Table:
    view = winner.view
    name = f"{view.model} on {view.dataset}{f' #{view.number}' if view.number > 1 else ''}"
    title = f"{name}, {view.dtype}: the best of {count(winner.num_edits, 'edit')} on val"
    corrected = "p on val is corrected for all of them (Holm)" if winner.num_edits > 1 else ""
    score, loss = view.measures.both
    numbers = (f"{view.measures.example}s", score.heading, loss.name, "gain", "p")
    table = make_table(("split", "", "trial", *numbers), numbers, title, caption=corrected)
    for untouched, edited, p_value in (
        (winner.untouched, winner.best, winner.p_value),
        (winner.untouched_on_test, winner.best_on_test, None),
    ):
        if untouched is not None:
            table.add_row(*cells(_line(untouched, "untouched", None)))
        if edited is not None:
            what = f"{edited.row['intervention']} {named(stored_trial(edited.row))}"
            table.add_row(*cells(_line(edited, what, edited.p_value if p_value is None else p_value)))
    return table


def _line(standing: Standing, what: str, p_value: float | None) -> list[object]:
    """A trial on one split; the untouched model has no gain."""
    row, paired = standing.row, standing.paired
    score, loss = measures_of(row).both
    gain = score.change(standing.gain, None if paired is None else paired.stderr) if row["edits"] else ""
    figures = score.number(row[score.column], row[score.stderr]), loss.number(row[loss.column])
    measured = f"{row['num_examples']:,}", *figures
    return [row["split"], what, row["trial_key"], *measured, gain, short_p(p_value)]


def _plain(winner: Winner) -> dict[str, Any]:
    view = winner.view
    names = ("model", "model_revision", "dtype", "dataset", "limit", "num_examples")
    return {
        **{name: getattr(view, name) for name in names},
        "num_edits": winner.num_edits,
        "untouched": _plain_trial(winner.untouched, winner.untouched_on_test),
        "best": _plain_trial(winner.best, winner.best_on_test),
        "p_value_holm": winner.p_value,
        "beats_untouched": None if winner.best is None else not winner.loses,
    }


def _plain_trial(on_val: Standing | None, on_test: Standing | None) -> dict[str, Any] | None:
    if on_val is None:
        return None
    row, splits = on_val.row, {"val": on_val, "test": on_test}
    labels = {name: row[name] for name in ("intervention", "tau", "layer", "rho", "edits")}
    figures = {split: _plain_figures(standing) for split, standing in splits.items()}
    return {**labels, "what": stored_trial(row).describe(), **figures}


def _plain_figures(standing: Standing | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    row, paired = standing.row, standing.paired
    measures = measures_of(row)
    figures = measures.score.column, measures.score.stderr, measures.loss.column
    names = ("trial_key", "num_examples", *figures)
    return {
        **{name: row[name] for name in names},
        "gain": standing.gain,
        "gain_stderr": None if paired is None else paired.stderr,
        "gain_low": None if paired is None else paired.low,
        "gain_high": None if paired is None else paired.high,
        "p_value": standing.p_value,
    }
