"""`python -m laser_sweep.store`: looks into a store from the command line."""

from __future__ import annotations

import argparse
import sys

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from laser_sweep.errors import RequestError
from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore

_SHOWN = ("trial_key", "model", "dataset", "split", "intervention", "tau", "layer", "rho", "status", "accuracy", "gain")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m laser_sweep.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("show", "list the trials, best first"), ("compact", "merge the small files into one")):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("store", nargs="?", default="outputs/store", help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        if arguments.command == "show":
            show(arguments.store)
        else:
            trials = ParquetStore(arguments.store).compact()
            print(f"merged {trials} trials" if trials else "nothing to merge")
    except RequestError as error:
        print(f"laser_sweep.store: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def show(store: str) -> None:
    """Prints a row for each trial."""
    trials = read_trials(store)
    table = Table(box=box.SIMPLE)
    for column in _SHOWN:
        table.add_column(column, no_wrap=True)
    for row in trials[list(_SHOWN)].astype(object).itertuples(index=False):
        table.add_row(*("" if pd.isna(value) else _format(value) for value in row))
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(table)


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
