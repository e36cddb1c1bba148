"""`python -m laser_sweep.analysis`: what an edit changed, from the answers that a store keeps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from laser_sweep.analysis.comparisons import comparisons
from laser_sweep.analysis.components import components
from laser_sweep.analysis.flips import flips
from laser_sweep.analysis.frequency import join_counts
from laser_sweep.analysis.tables import Page, components_page, flips_page, frequency_page, paraphrases_page
from laser_sweep.errors import RequestError, listing
from laser_sweep.measures import ANSWERS, measures_of
from laser_sweep.store.reader import find_trial, read_predictions, read_trials

_PLAIN_WIDTH = 120  # of tables where standard output is not a terminal


def main() -> None:
    arguments = _parser().parse_args()
    try:
        row = _edited(arguments.store, arguments.trial)
        match arguments.command:
            case "components":
                _check_directory(arguments.to)
                page = _components(row, arguments.store, arguments.rows)
            case "flips":
                page = flips_page(_name(row), _flips(row, arguments.store), _count("--rows", arguments.rows))
            case "frequency":
                page = _frequency(row, arguments.store, _count("--bins", arguments.bins), arguments.counts)
            case _:
                with _as_request(row):
                    page = paraphrases_page(_name(row), _flips(row, arguments.store))
        _print(page)
        if arguments.command == "components" and arguments.to is not None:
            _write(page, arguments.to)
    except RequestError as error:
        print(f"laser_sweep.analysis: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m laser_sweep.analysis", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "components": "what a model says untouched, with only the part of a matrix that LASER keeps, and with only the "
        "part that it removes, which is measured where it is not stored",
        "flips": "which answers an edit made right or wrong",
        "frequency": "the gain by how often facts stand in the training data",
        "paraphrase": "what becomes of groups of examples that ask the same in other words",
    }
    made = {name: commands.add_parser(name, help=text, description=text) for name, text in texts.items()}
    for command in made.values():
        command.add_argument("trial", help="the key of a stored trial, or its first characters")
        command.add_argument("--store", default="outputs/store", metavar="DIR", help="default: %(default)s")
    for name in ("components", "flips"):
        made[name].add_argument("--rows", type=int, default=12, metavar="N", help="how many examples (default: 12)")
    made["components"].add_argument("--to", metavar="FILE.md", help="write it as Markdown too")
    made["frequency"].add_argument("--bins", type=int, default=5, metavar="N", help="how many bins (default: 5)")
    made["frequency"].add_argument(
        "--counts", metavar="FILE", help="CSV, Parquet or JSONL of counts by example_id, subject or gold"
    )
    return parser


def _edited(store: str, key: str) -> pd.Series[Any]:
    """The row of a finished trial with edits."""
    row = find_trial(store, key)
    if len(row["edits"]) == 0:
        raise RequestError(f"trial {row['trial_key']} is the untouched model; give one with an edit")
    if row["status"] != "done":
        raise RequestError(f"trial {row['trial_key']} failed and has no answers: {row['error']}")
    if measures_of(row) is not ANSWERS:
        raise RequestError(
            f"trial {row['trial_key']} played episodes and answered nothing; hold it against others with "
            "python -m laser_sweep.store compare"
        )
    return row


def _flips(row: pd.Series[Any], store: str) -> pd.DataFrame:
    """Its answers beside those of the untouched model, as the store has them."""
    key = row["trial_key"]
    view = next(view for view in comparisons(read_trials(store)) if view.trials["trial_key"].eq(key).any())
    if view.untouched is None:
        raise RequestError(
            f"store.path={store} has no untouched model of {view.title}; run the sweep of trial {key} again to add it"
        )
    with _as_request(row):
        return flips(_answers(store, key), _answers(store, view.untouched["trial_key"]))


def _components(row: pd.Series[Any], store: str, rows: int) -> Page:
    key = row["trial_key"]
    methods = {edit["method"] for edit in row["edits"]}
    if methods != {"laser"}:
        raise RequestError(
            f"trial {key} is {listing(sorted(methods))}, which has no removed part; give a trial of intervention=laser"
        )
    _count("--rows", rows)
    low_rank = _answers(store, key)

    from laser_sweep.rerun import vary  # everything above is known without torch

    variant = vary(store, row, "removed")
    result = variant.measure()
    if not result.ok:
        print(f"laser_sweep.analysis: what trial {key} removed could not be measured: {result.error}", file=sys.stderr)
        raise SystemExit(1)
    with _as_request(row):
        table = components(
            _answers(store, variant.untouched.key), low_rank, _answers(store, result.trial.key), variant.prompts()
        )
    return components_page(_name(row), table, rows)


def _frequency(row: pd.Series[Any], store: str, bins: int, counts: str | None) -> Page:
    table = _flips(row, store)
    if counts is not None:
        joined = join_counts(table, counts)
        _say(f"{counts}: {joined.column} of {joined.found:,} of {len(table):,} examples, by {joined.key}")
        table = joined.table
    elif table["frequency"].isna().all():
        raise RequestError(f"the examples of {row['dataset']} have no frequency; give a file of counts with --counts")
    return frequency_page(_name(row), table, bins)


def _answers(store: str, key: str) -> pd.DataFrame:
    found = read_predictions(store, key)
    if found.empty:
        raise RequestError(
            f"store.path={store} has no predictions of trial {key}; run its sweep again with resume=never"
        )
    return found


@contextmanager
def _as_request(row: pd.Series[Any]) -> Iterator[None]:
    """What a trial cannot be asked is the request's fault."""
    try:
        yield
    except ValueError as error:
        raise RequestError(f"trial {row['trial_key']}: {error}") from None


def _count(name: str, value: int) -> int:
    if value < 1:
        raise RequestError(f"{name} {value} is too small; give 1 or more")
    return value


def _name(row: pd.Series[Any]) -> str:
    """`laser fc_in[1] rho=0.01 of demo on demo, val (480 examples)`."""
    examples = f"{row['model']} on {row['dataset']}, {row['split']} ({int(row['num_examples']):,} examples)"
    if pd.isna(row["tau"]):
        edits = ", ".join(f"{edit['tau']}[{edit['layer']}] rho={edit['rho']:g}" for edit in row["edits"])
    else:
        edits = f"{row['tau']}[{'all' if pd.isna(row['layer']) else int(row['layer'])}] rho={row['rho']:g}"
    return f"{row['intervention']} {edits} of {examples}"


def _say(line: str) -> None:
    _console().print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


def _print(page: Page) -> None:
    _say(page.title)
    _console().print(page.table())
    for line in page.lines:
        _say(line)


def _check_directory(file: str | None) -> None:
    """To measure takes longer than to see that there is no place for the result."""
    if file is not None and not Path(file).parent.is_dir():
        raise RequestError(f"--to {file} cannot be written: {Path(file).parent} is not a directory")


def _write(page: Page, file: str) -> None:
    try:
        Path(file).write_text(page.markdown(), encoding="utf-8")
    except OSError as error:
        raise RequestError(f"--to {file} cannot be written: {error.strerror}") from None
    _say(f"written to {file}")


if __name__ == "__main__":
    main()
