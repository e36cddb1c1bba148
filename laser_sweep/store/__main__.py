"""`python -m laser_sweep.store`: looks into a store from the command line."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from laser_sweep.errors import RequestError

_DEFAULT = "outputs/store"
_KEY = re.compile(r"[0-9a-fA-F]{1,16}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"laser_sweep.store: {message}; {self.prog} --help lists what there is", file=sys.stderr)
        raise SystemExit(2)


def main() -> None:
    arguments = _parser().parse_args()
    try:
        _run(arguments)
        sys.stdout.flush()
    except RequestError as error:
        print(f"laser_sweep.store: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"laser_sweep.store: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m laser_sweep.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, *, keys: str | None = None) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if keys is None:
            made.add_argument("store", nargs="?", default=_DEFAULT, metavar="STORE", help="default: %(default)s")
        else:
            text = f"a store (default: {_DEFAULT}), then {keys}"
            made.add_argument("words", nargs="*", metavar="STORE KEY", help=text)
        return made

    best = command("best", "the untouched model and the best trial of each model and data set")
    compare = command(
        "compare", "in what trials differ, and which is better", keys="keys of trials or their beginnings"
    )
    show = command(
        "show", "list the trials, best first, or show some in full", keys="keys of trials or their beginnings"
    )
    for name in ("model", "dataset", "split", "tau", "status"):
        show.add_argument(f"--{name}", help=f"only trials with this {name}")
    show.add_argument("--limit", type=int, metavar="ROWS", help="only so many rows")
    failures = command("failures", "failed trials by reason, and the commands that run them again")
    command("compact", "merge the small files into one")
    export = command("export", "write the trials as one table")
    export.add_argument("--format", choices=("csv", "parquet", "json"), default="csv", help="default: %(default)s")
    export.add_argument("--predictions", action="store_true", help="the answers to all examples instead")
    export.add_argument("--to", metavar="FILE", help="default: standard output")
    sync = command("sync", "track what is stored with Weights & Biases, offline where there is no key")
    sync.add_argument("--project", default="laser-sweep", help="default: %(default)s")
    sync.add_argument("--granularity", choices=("sweep", "trial"), default="sweep", help="a run for each of these")
    sync.add_argument("--dir", default="outputs", help="where runs are written; default: %(default)s")
    for one in (best, compare, failures):
        one.add_argument("--json", action="store_true", help="for scripts")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    from laser_sweep.store.commands.screen import make_console, say

    console, name = make_console(), arguments.command
    if name == "best":
        from laser_sweep.store.commands.best import best

        best(arguments.store, console, arguments.json)
    elif name == "compare":
        from laser_sweep.store.commands.compare import compare

        compare(*_store_and_keys(arguments.words), console, arguments.json)
    elif name == "show":
        _show(arguments)
    elif name == "failures":
        from laser_sweep.store.commands.failures import failures

        failures(arguments.store, console, arguments.json)
    elif name == "export":
        from laser_sweep.store.commands.export import export

        export(arguments.store, arguments.format, "predictions" if arguments.predictions else "trials", arguments.to)
    elif name == "compact":
        from laser_sweep.store.store import ParquetStore

        trials = ParquetStore(arguments.store).compact()
        say(console, f"merged {trials} trials" if trials else "nothing to merge")
    else:
        # The one place where the reading side sees the sweep: a store is told to the tracker that a sweep would have.
        from laser_sweep.store.stored import stored_results
        from laser_sweep.sweep.tracking.replay import replay

        results = ((one.result, one.sweep, one.config_json) for one in stored_results(arguments.store))
        say(console, replay(results, arguments.project, arguments.granularity, arguments.dir))


def _show(arguments: argparse.Namespace) -> None:
    from laser_sweep.store.commands.screen import make_console
    from laser_sweep.store.commands.show import Filters, show_list, show_trials

    store, keys = _store_and_keys(arguments.words)
    names = ("model", "dataset", "split", "tau", "status", "limit")
    filters = Filters(**{name: getattr(arguments, name) for name in names})
    if keys and filters != Filters():
        raise RequestError(
            f"filters choose from the list of trials, and {' '.join(keys)} names them; give one or the other"
        )
    if keys:
        show_trials(store, keys, make_console())
    else:
        show_list(store, filters, make_console())


def _store_and_keys(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The first word is the store, unless it can only be a key: hexadecimal, and the name of nothing here."""
    if not words or (_KEY.fullmatch(words[0]) and not Path(words[0]).exists()):
        return _DEFAULT, words
    return words[0], words[1:]


if __name__ == "__main__":
    main()
