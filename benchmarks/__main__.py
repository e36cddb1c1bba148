"""`python -m benchmarks`: runs the benchmarks that fit a CPU, one after the other, and writes docs/benchmarks.md.

The page has what each of them says of itself and prints, and how its figures stand to their targets. What follows the
marker in the page is kept by hand and stays: reasons, and figures of machines that are not here.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
MARKER = "<!-- Kept by hand from here on: `make bench` leaves it as it is. -->"
NAMES = (
    "vs_reference",
    "search",
    "agreement",
    "vs_stock_launcher",
    "planning",
    "edit",
    "factor",
    "scheduler",
    "store",
    "dashboard",
    "memory",
    "factored",
    "cold_start",
)
_PENDING = """## gpu

`python -m benchmarks.gpu`, run by hand on a machine with a GPU: its figures are still to be measured.
"""


@dataclass(frozen=True)
class Target:
    """A figure of a benchmark and what it should be: at most or, where `least`, at least `value`."""

    name: str
    key: str
    value: float
    least: bool
    words: str

    def met(self, figure: float) -> bool:
        return figure >= self.value if self.least else figure <= self.value


TARGETS = (
    Target("vs_reference", "late_sweep_ratio", 50, True, "late grid, times faster than the published way, whole sweep"),
    Target("vs_reference", "late_trial_ratio", 8, True, "late grid, times faster, a trial"),
    Target("vs_reference", "full_sweep_ratio", 20, True, "full grid, times faster, whole sweep"),
    Target("vs_reference", "full_trial_ratio", 4, True, "full grid, times faster, a trial"),
    Target("search", "gradient_100_100_vs_own_exhaustive", 30, True, "100/100, times faster than our own exhaustive"),
    Target(
        "search", "gradient_100_100_vs_published", 1000, True, "100/100, times faster than the published exhaustive"
    ),
    Target("planning", "seconds_per_10000_trials", 5, False, "seconds to plan 10,000 trials"),
    *(
        Target("scheduler", f"utilisation_{grid}_{workers}", least, True, f"utilisation, {grid}, {workers} workers")
        for workers, least in ((8, 0.95), (64, 0.9))
        for grid in ("gptj_bbh", "llama2_bbh", "roberta_bbh", "full")
    ),
    Target("scheduler", "dispatch_ms", 2, False, "ms that the driver takes for a trial"),
    Target("memory", "peak_over_held", 1.2, False, "peak memory of a worker over what it has to hold"),
    Target("store", "written_per_second", 200, True, "trials stored a second"),
    Target("store", "aggregate_seconds", 1, False, "seconds to aggregate 10,000 stored trials"),
    Target("dashboard", "open_seconds", 2, False, "seconds to open 2,240 trials with predictions"),
    Target("dashboard", "filter_seconds", 0.3, False, "seconds to answer a filter"),
    Target("dashboard", "large_filter_seconds", 1, False, "seconds to answer a filter, 50,000 trials"),
)


@dataclass(frozen=True)
class Report:
    """What a benchmark says of itself, what it printed, its figures, and how long it took."""

    name: str
    description: str
    printed: str
    figures: Mapping[str, float]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which; default: {' '.join(NAMES)}")
    parser.add_argument("--small", action="store_true", help="sizes for tests, whose figures say little")
    parser.add_argument("--page", type=Path, help="where to write; default: docs/benchmarks.md where all are run")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    reports = [measured(name, small=arguments.small) for name in arguments.names or NAMES]
    target = arguments.page or (None if arguments.names else PAGE)
    written = target.read_text(encoding="utf-8") if target and target.exists() else ""
    text = page(reports, written, load)
    if target:
        target.write_text(text, encoding="utf-8")
    else:
        print(text)


def measured(name: str, *, small: bool) -> Report:
    """Runs one benchmark in a process of its own. Raises SystemExit where it fails."""
    print(f"{name} ...", end=" ", flush=True)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *(["--small"] if small else [])],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "120"},
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise SystemExit(f"failed:\n{done.stdout}{done.stderr}")
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s", flush=True)
    printed, _, last = done.stdout.rstrip().rpartition("\n")
    source = (ROOT / "benchmarks" / f"{name}.py").read_text()
    return Report(name, ast.get_docstring(ast.parse(source)) or "", printed, json.loads(last), seconds)


def page(reports: Sequence[Report], written: str, load: float) -> str:
    """The page; `written` is what it was, of which the part kept by hand stays; `load` is the machine's before all."""
    kept = written.partition(MARKER)[2].lstrip() or _PENDING
    sections = "\n".join(
        f"## {report.name}\n\n{report.description}\n\n```text\n{_without_ends(report.printed)}\n```\n"
        for report in reports
    )
    minutes = sum(report.seconds for report in reports) / 60
    return f"""# Benchmarks

Written by `make bench` on {date.today()}, in {minutes:.0f} minutes. Each benchmark measures both sides in one run on
the same work, after checking that both give the same results; `python -m benchmarks.NAME` runs one of them again.

{machine()}; load {load:.1f} before the first.

{targets(reports)}
{sections}
{MARKER}

{kept}"""


def targets(reports: Sequence[Report]) -> str:
    """A table of the figures that have a target."""
    figures = {(report.name, key): value for report in reports for key, value in report.figures.items()}
    rows = ["| benchmark | figure | target | measured | |", "|---|---|---|---|---|"]
    for target in TARGETS:
        if (figure := figures.get((target.name, target.key))) is not None:
            bound = f"{'≥' if target.least else '≤'} {target.value:g}"
            met = "met" if target.met(figure) else "not met"
            rows.append(f"| {target.name} | {target.words} | {bound} | {figure:g} | {met} |")
    return "\n".join([*rows, ""]) if len(rows) > 2 else ""


def machine() -> str:
    """Processor, cores and versions; no names."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {version('torch')}, "
        f"transformers {version('transformers')}, Ray {version('ray')}"
    )


def _without_ends(printed: str) -> str:
    """Without the white space at the ends of lines, which a table has."""
    return "\n".join(line.rstrip() for line in printed.splitlines())


if __name__ == "__main__":
    main()
