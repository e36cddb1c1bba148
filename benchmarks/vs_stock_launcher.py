"""The same trials through Hydra's own sweeper and Ray launcher with a function that loads the model each time.

Both sides are whole commands on the embedded model, on a Ray of their own with all CPUs of the machine, one thread a
trial, and run the same engine: what differs is that ours composes one configuration, keeps workers with their model,
and has neighbouring trials share what they can. Ours also measures the untouched model. Both find the same accuracies.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.table import Table

from benchmarks.command import Figures, run, show
from benchmarks.stock_app import ANSWERS

STOCK_LAUNCHER = Path(sys.prefix) / "stock-launcher"
"""Not in the environment itself, where Hydra would load the plugin in every command; `make bench` puts it here."""
REQUIREMENT = "hydra-ray-launcher==1.2.2"


@dataclass(frozen=True)
class Size:
    taus: tuple[str, ...]
    layers: tuple[int, ...]
    rhos: tuple[float, ...]
    examples: int


FULL = Size(taus=("fc_in", "fc_out"), layers=(0, 1), rhos=(0.01, 0.05, 0.1, 0.2, 0.4, 0.8), examples=400)
SMALL = Size(taus=("fc_in",), layers=(1,), rhos=(0.01, 0.1), examples=10)


@dataclass(frozen=True)
class Side:
    """A command's seconds, those from its first result to its last, and the accuracies by trial key."""

    seconds: float
    seconds_between: float
    accuracies: dict[str, float]


def measure(size: Size) -> Figures:
    """Seconds of both commands, and of a trial once workers are up."""
    axes = [
        f"{name}={','.join(map(str, values))}"
        for name, values in (("tau", size.taus), ("layer", size.layers), ("rho", size.rhos))
    ]
    line = ["-m", *axes, "tracking=none", f"evaluation.limit={size.examples}", "evaluation.confirm=false"]
    with tempfile.TemporaryDirectory() as directory:
        theirs = stock(line, Path(directory))
        ours = laser_sweep(line, Path(directory))
    expected = len(list(itertools.product(size.taus, size.layers, size.rhos)))
    assert len(theirs.accuracies) == expected
    assert theirs.accuracies == {key: ours.accuracies[key] for key in theirs.accuracies}

    each = theirs.seconds_between / (expected - 1), ours.seconds_between / (len(ours.accuracies) - 1)
    table = Table("", "stock launcher", "laser-sweep", "ratio")
    table.add_row(
        "s, whole command", f"{theirs.seconds:.1f}", f"{ours.seconds:.1f}", f"{theirs.seconds / ours.seconds:.1f}"
    )
    table.add_row(
        "s a trial, from the first result to the last", f"{each[0]:.3f}", f"{each[1]:.3f}", f"{each[0] / each[1]:.1f}"
    )
    show(
        f"{expected} trials on {size.examples} examples, {os.cpu_count()} CPUs; start of Ray and imports counted.",
        table,
    )
    return {
        "stock_seconds": theirs.seconds,
        "our_seconds": ours.seconds,
        "command_ratio": theirs.seconds / ours.seconds,
        "trial_ratio": each[0] / each[1],
    }


def stock(line: list[str], root: Path) -> Side:
    """Hydra's sweeper and Ray launcher, as they come."""
    if not (STOCK_LAUNCHER / "hydra_plugins").is_dir():
        raise SystemExit(
            f"vs_stock_launcher: {REQUIREMENT} is not there; "
            f"`make bench` installs it, and so does pip install --no-deps --target {STOCK_LAUNCHER} {REQUIREMENT}"
        )
    answers = root / "answers"
    answers.mkdir()
    command = [sys.executable, str(Path(__file__).with_name("stock_app.py")), *line]
    seconds = run_command(
        [*command, "hydra/sweeper=basic", "hydra/launcher=ray"],
        root,
        {ANSWERS: str(answers), "PYTHONPATH": str(STOCK_LAUNCHER)},
    )
    files = list(answers.glob("*.json"))
    return Side(seconds, seconds_between(files), {file.stem: json.loads(file.read_text()) for file in files})


def laser_sweep(line: list[str], root: Path) -> Side:
    store = root / "store"
    seconds = run_command([sys.executable, "-m", "laser_sweep", *line, f"store.path={store}"], root, {})
    files = list((store / "trials").glob("*.parquet"))
    accuracies = {file.stem: pq.read_table(file)["accuracy"][0].as_py() for file in files}
    return Side(seconds, seconds_between(files), accuracies)


def run_command(command: list[str], root: Path, extra: dict[str, str]) -> float:
    """Seconds of a command with one thread, without network, and without a cache of an earlier run."""
    variables = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, **variables, "XDG_CACHE_HOME": str(root / "cache"), **extra},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr}")
    return time.perf_counter() - started


def seconds_between(files: list[Path]) -> float:
    """From the first file written to the last."""
    times = [file.stat().st_mtime for file in files]
    return max(times) - min(times)


if __name__ == "__main__":
    run(measure, full=FULL, small=SMALL, description=__doc__)
