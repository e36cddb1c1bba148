"""Runs command lines, each in a fork of this process, which imports what the command needs before a model is.

Reads {"arguments", "directory"} from each line of standard input, runs the command in that directory, which exists, and
answers with a line on standard output: the exit code, what was printed, what is in the directory afterwards, the heavy
libraries that were imported and the seconds of the processor that it took.

With `--plan` this process has planned a sweep already, and so has imported torch and transformers as well.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

# Loaded once for all forks. If one of these imported torch or Ray, every outcome would say so.
import datasets  # noqa: F401

import laser_sweep.config
import laser_sweep.store.store
import laser_sweep.sweep.jobs  # noqa: F401
from laser_sweep.cli import main

HEAVY = ("torch", "transformers", "ray", "wandb")
SECONDS = 60  # after which a command line that does not end is killed, as one that takes all memory would be
MEMORY = 8 << 30


def run(arguments: list[str], directory: Path) -> int:
    """The exit code; standard output and error, and what was imported, go to files beside the directory."""
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
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
    directory.with_suffix(".json").write_text(json.dumps(loaded))
    return code if isinstance(code, int) else 1


def outcome(arguments: list[str], directory: Path) -> dict[str, Any]:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = run(arguments, directory)
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    imported = directory.with_suffix(".json")
    return {
        "code": os.waitstatus_to_exitcode(status),  # negative where it was killed
        "out": directory.with_suffix(".out").read_text(errors="replace"),
        "err": directory.with_suffix(".err").read_text(errors="replace"),
        "loaded": json.loads(imported.read_text()) if imported.exists() else [],
        "written": sorted(str(path.relative_to(directory)) for path in directory.rglob("*")),
        "seconds": usage.ru_utime + usage.ru_stime,
    }


if __name__ == "__main__":
    plan = sys.argv[1:] == ["--plan"]
    sys.argv = ["laser_sweep", *(["dry_run=true", "tracking=none"] if plan else ["--cfg", "job"])]
    with redirect_stdout(io.StringIO()):
        main()  # finds Hydra's plugins, once for all forks
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(outcome(asked["arguments"], Path(asked["directory"]))), flush=True)
