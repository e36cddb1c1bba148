"""`python -m laser_sweep.export`: writes the edited model of a stored trial as a checkpoint.

0 written; 1 the written model is not what the trial measured, so nothing was kept; 2 the request was wrong; 130 or 143
interrupted.
"""

from __future__ import annotations

import argparse
import errno
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from laser_sweep.errors import RequestError

_TERMINATED = 128 + signal.SIGTERM


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"laser_sweep.export: {message}; {self.prog} --help lists what there is", file=sys.stderr)
        raise SystemExit(2)


def main() -> None:
    arguments = _parser().parse_args()
    try:
        with _termination_raises():
            _run(arguments)
    except RequestError as error:
        print(f"laser_sweep.export: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        print(f"laser_sweep.export: {_explain(error, arguments.to)}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("laser_sweep.export: interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m laser_sweep.export", description="Writes the edited model of a stored trial.")
    parser.add_argument("trial", help="the key of a trial, its first characters, or best")
    parser.add_argument("--to", required=True, metavar="DIR", help="where to write; it must not be there yet")
    parser.add_argument("--store", default="outputs/store", metavar="PATH", help="default: %(default)s")
    parser.add_argument(
        "--form",
        choices=("dense", "factored"),
        default="dense",
        help="dense: an ordinary checkpoint; factored: edited matrices as their factors where these are smaller "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--verify", action="store_true", help="load what was written and ask it what the trial was asked"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="NATS",
        help="how far log p may be from what the trial found (default: what rounding explains)",
    )
    parser.add_argument("--overwrite", action="store_true", help="take the place of an earlier export")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.tolerance is not None and not arguments.verify:
        raise RequestError(f"--tolerance {arguments.tolerance} says how to verify; give --verify too")
    target = Path(arguments.to).expanduser().absolute()
    _check_target(target, arguments.to, overwrite=arguments.overwrite)

    from laser_sweep.export.chosen import choose, find_base

    chosen = choose(arguments.store, arguments.trial)
    base = find_base(chosen)

    from laser_sweep.export.run import export  # everything above is known without torch

    command = shlex.join(["python", "-m", "laser_sweep.export", *sys.argv[1:]])
    failure = export(
        chosen,
        base,
        target,
        shown=arguments.to,
        form=arguments.form,
        verified=arguments.verify,
        tolerance=arguments.tolerance,
        command=command,
    )
    if failure is not None:
        print(f"laser_sweep.export: {failure}; nothing was written", file=sys.stderr)
        raise SystemExit(1)


def _check_target(target: Path, shown: str, *, overwrite: bool) -> None:
    """Raises RequestError where nothing can be written, or where something would be lost."""
    from laser_sweep.export.manifest import MANIFEST

    if target.exists() and not target.is_dir():
        raise RequestError(f"--to {shown} is a file; give a directory that is not there yet")
    if not target.exists() or not any(target.iterdir()):
        return
    if not overwrite:
        raise RequestError(
            f"--to {shown} is there already; give another directory, or --overwrite for an earlier export"
        )
    if not (target / MANIFEST).is_file():
        raise RequestError(f"--to {shown} holds something else than an export, which --overwrite does not remove")


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Inside, SIGTERM ends the process as an exception does, so that what is half written goes away."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _explain(error: OSError, shown: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"--to {shown} is on a disk that is full ({error.strerror}); nothing was written"
    where = f" ({error.filename})" if error.filename else ""
    return f"--to {shown} cannot be written: {error.strerror or error}{where}"


if __name__ == "__main__":
    main()
