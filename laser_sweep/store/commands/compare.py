"""`compare`: in what trials differ, and which of them is better on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from laser_sweep.errors import RequestError
from laser_sweep.measures import ANSWERS, Measure, measures_of
from laser_sweep.store.commands.screen import cells, make_table, named, percent, print_json, say, short_p
from laser_sweep.store.pairs import Pair, Pairs
from laser_sweep.store.reader import find_trial
from laser_sweep.store.stored import leaves, python_row, read_config, stored_trial

Row = Mapping[str, Any]
_LABELS = (
    "sweep",
    "model",
    "model_revision",
    "dtype",
    "dataset",
    "split",
    "limit",
    "num_examples",
    "num_skipped",
    "intervention",
    "tau",
    "layer",
    "rho",
    "parameters",
    "status",
    "error",
    "attempt",
    "device",
    "schema_version",
)
_FRACTIONS = (
    "majority_accuracy",
    "balanced_accuracy",
    "top1_accuracy",
    "top5_accuracy",
    "top10_accuracy",
    "f1",
    "group_accuracy",
    "success_rate",
)


def compare(store: str, keys: Sequence[str], console: Console, as_json: bool) -> None:
    """The first trial is the one that the others are held against. Raises RequestError for fewer than two."""
    rows = {row["trial_key"]: row for row in (python_row(find_trial(store, key)) for key in keys)}
    if len(rows) < 2:
        raise RequestError(f"compare takes two trials or more, and {' '.join(keys) or 'no key'} names {len(rows)}")
    first, *others = rows.values()
    pairs = Pairs(store)
    differences = _differences([first, *others])
    found = [(row["trial_key"], pairs.pair(first, row)) for row in others]
    if as_json:
        trials = [_plain(row, pairs) for row in rows.values()]
        print_json({"trials": trials, "differences": differences, "pairs": [_plain_pair(*one) for one in found]})
        return
    console.print(_table([first, *others], differences, pairs))
    if any(isinstance(pair, Pair) for _, pair in found):
        console.print(_pairs_table(first, found))
    for key, pair in found:
        if isinstance(pair, str):
            say(console, f"  {pair}")
        elif any(pair.alone):
            say(console, f"  {first['trial_key']} and {key} answer different examples: {_shared(pair)}")


def _shared(pair: Pair) -> str:
    return (
        f"paired on the {pair.num_examples:,} that both answer; {pair.alone[0]:,} only the first, "
        f"{pair.alone[1]:,} only the second"
    )


def _differences(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Each label and setting that is not the same in all, with the value of each trial."""
    described: list[dict[str, Any]] = []
    for row in rows:
        edits = "; ".join(_edit(edit) for edit in row["edits"])
        settings = {f"config {key}": value for key, value in leaves(read_config(row["config_json"])).items()}
        described.append({**{name: row[name] for name in _LABELS}, "edits": edits, **settings})
    names = dict.fromkeys(name for one in described for name in one)
    values = {name: [one.get(name) for one in described] for name in names}
    return {name: these for name, these in values.items() if any(value != these[0] for value in these)}


def _edit(edit: Row) -> str:
    rank = "" if edit["rank"] is None else f" rank={edit['rank']}"
    options = "" if edit.get("options") in (None, "{}") else f" {edit['options']}"
    return f"{edit['tau']}[{edit['layer']}] {edit['method']} rho={edit['rho']:g}{rank}{options}"


def _table(rows: Sequence[Row], differences: Mapping[str, list[Any]], pairs: Pairs) -> Table:
    table = make_table(("",), title="what differs")
    for row in rows:
        table.add_column(f"{row['trial_key']}\n{named(stored_trial(row))}", overflow="fold")
    for name, values in differences.items():
        table.add_row(*cells([name, *values]))
    table.add_section()
    for kind in dict.fromkeys(map(measures_of, rows)):
        score, loss = kind.both
        values = [score.number(row[score.column], row[score.stderr]) for row in rows]
        table.add_row(*cells([score.heading, *values]))
        table.add_row(*cells([loss.name, *(_loss(row, loss, pairs) for row in rows)]))
    for name in _FRACTIONS:
        values = [row[name] for row in rows]
        if any(value != values[0] for value in values):
            table.add_row(*cells([f"{name} %", *(percent(value) for value in values)]))
    return table


def _loss(row: Row, loss: Measure, pairs: Pairs) -> str:
    if row[loss.column] is None:
        return ""
    error = pairs.loss_stderr(row["trial_key"])
    return f"{row[loss.column]:.4f}{'' if error is None else f' ± {error:.4f}'}"


def _pairs_table(first: Row, found: Sequence[tuple[str, Pair | str]]) -> Table:
    measures = measures_of(first)
    score, better = measures.score, "right only" if measures is ANSWERS else "more"
    counts = (f"{better} here", f"{better} there", f"other {'answers' if measures is ANSWERS else 'returns'}")
    numbers = (f"{measures.example}s", "gain", "95 %", "p", *counts)
    table = make_table(("trial", *numbers), numbers, f"against {first['trial_key']}, on the same {measures.example}s")
    for key, pair in found:
        if isinstance(pair, Pair):
            gain = pair.gain
            table.add_row(
                *cells([key, f"{pair.num_examples:,}", score.change(gain.gain, gain.stderr)]),
                *cells([f"{score.change(gain.low)} to {score.change(gain.high)}", short_p(gain.p_value)]),
                *cells([f"{gain.wins:,}", f"{gain.losses:,}", f"{pair.disagreements:,}"]),
            )
    return table


def _plain(row: Row, pairs: Pairs) -> dict[str, Any]:
    score, loss = measures_of(row).both
    names = ("trial_key", *_LABELS, "edits", score.column, score.stderr, loss.column, *_FRACTIONS)
    return {**{name: row[name] for name in names}, f"{loss.column}_stderr": pairs.loss_stderr(row["trial_key"])}


def _plain_pair(key: str, pair: Pair | str) -> dict[str, Any]:
    if isinstance(pair, str):
        return {"trial_key": key, "error": pair}
    gain = asdict(pair.gain)
    return {
        "trial_key": key,
        "num_examples": pair.num_examples,
        "only_first": pair.alone[0],
        "only_this": pair.alone[1],
        "disagreements": pair.disagreements,
        **gain,
    }
