"""Runs many command lines, each in a fork of this process, which imports what the command needs before a model is.

`python forks.py DIR` reads DIR/lines.json, {name: arguments}, and writes DIR/outcomes.json, {name: outcome}. Each line
runs in an empty directory of its own.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path

# Loaded once for all forks. If one of these imported torch or Ray, every outcome would say so.
import datasets  # noqa: F401

import laser_sweep.config
import laser_sweep.store.store
import laser_sweep.sweep.jobs  # noqa: F401
from laser_sweep.cli import main

HEAVY = ("torch", "transformers", "ray", "wandb")


def run(arguments: list[str], directory: Path) -> int:
    """The exit code; standard output and error go to files beside the directory."""
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(directory.with_suffix(f".{name}"), os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(file, stream)
    os.chdir(directory)
    sys.argv = ["laser_sweep", *arguments]
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    loaded = [name for name in HEAVY if name in sys.modules]
    written = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
    directory.with_suffix(".json").write_text(json.dumps({"loaded": loaded, "written": written}))
    return code if isinstance(code, int) else 1


def outcomes(work: Path) -> dict[str, dict]:
    found = {}
    for number, (name, arguments) in enumerate(json.loads((work / "lines.json").read_text()).items()):
        directory = work / str(number)
        directory.mkdir()
        child = os.fork()
        if child == 0:
            os._exit(run(arguments, directory))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found[name] = {
            "code": code,
            "out": directory.with_suffix(".out").read_text(),
            "err": directory.with_suffix(".err").read_text(),
            **json.loads(directory.with_suffix(".json").read_text()),
        }
    return found


if __name__ == "__main__":
    work = Path(sys.argv[1])
    sys.argv = ["laser_sweep", "--cfg", "job"]
    with redirect_stdout(io.StringIO()):
        main()  # finds Hydra's plugins, once for all forks
    (work / "outcomes.json").write_text(json.dumps(outcomes(work)))
