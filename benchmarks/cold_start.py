"""What a person waits for: the help, a plan, the first stored result; beside importing torch and transformers.

Each command is a process of its own on the embedded model, the best of three. The first result is that of the untouched
model: the time until its file is in the store, from the start of the command.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from benchmarks.command import Figures, run, show

LIBRARIES = "import torch, transformers; transformers.AutoModelForCausalLM, transformers.AutoTokenizer"
_POLL_SECONDS = 0.005


@dataclass(frozen=True)
class Size:
    repeats: int
    examples: int


FULL = Size(repeats=3, examples=200)
SMALL = Size(repeats=1, examples=10)


def measure(size: Size) -> Figures:
    """Seconds of each command, the best of some."""
    sweep = ["tracking=none", f"evaluation.limit={size.examples}", "evaluation.confirm=false", "rho=[0.01,0.1]"]
    ours = [sys.executable, "-m", "laser_sweep"]
    best: dict[str, float] = {}
    for _ in range(size.repeats):
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            here, ray = root / "here", root / "ray"
            seconds = {
                "libraries": finished([sys.executable, "-c", LIBRARIES], root),
                "help": finished([*ours, "--help"], root),
                "dry_run": finished([*ours, *sweep, f"store.path={here}", "dry_run=true"], root),
                "first_result": stored([*ours, *sweep, f"store.path={here}"], root, here),
                "first_result_ray": stored([*ours, "-m", *sweep, f"store.path={ray}"], root, ray),
            }
            assert names(here) == names(ray), "both ways store the same trials"
        best = {name: min(value, best.get(name, value)) for name, value in seconds.items()}

    table = Table("from the start of the command to", "s", "of importing the libraries")
    for name, title in {
        "libraries": "torch and transformers imported, nothing else",
        "help": "the end of laser-sweep --help",
        "dry_run": "the end of laser-sweep dry_run=true",
        "first_result": "the first stored result, in this process",
        "first_result_ray": "the first stored result, on Ray (-m)",
    }.items():
        table.add_row(title, f"{best[name]:.2f}", f"{best[name] / best['libraries']:.1f}")
    show(f"Best of {size.repeats}.", table)
    return {f"{name}_seconds": value for name, value in best.items()}


def environment(root: Path) -> dict[str, str]:
    """One thread, no network, and no cache of an earlier run."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(root / "cache")}


def finished(command: list[str], root: Path) -> float:
    """Seconds until a command has ended."""
    started = time.perf_counter()
    subprocess.run(command, cwd=root, env=environment(root), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def stored(command: list[str], root: Path, store: Path) -> float:
    """Seconds until the first trial of a command is in the store; waits for its end."""
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=root, env=environment(root), stdout=subprocess.DEVNULL) as process:
        while not names(store) and process.poll() is None:
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - started
    assert process.returncode == 0, command
    return seconds


def names(store: Path) -> set[str]:
    return {file.name for file in (store / "trials").glob("*.parquet")}


if __name__ == "__main__":
    run(measure, full=FULL, small=SMALL, description=__doc__)
