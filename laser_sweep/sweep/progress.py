"""Shows how far a sweep is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from laser_sweep.trial import TrialResult

_LINE_SECONDS = 10.0


class _Best:
    """The best trial on val so far, of those on the most examples, and how many have failed."""

    def __init__(self) -> None:
        self._result: TrialResult | None = None
        self.failed = 0

    def add(self, result: TrialResult) -> None:
        if not result.ok:
            self.failed += 1
        elif result.trial.evaluation.split == "val":
            self._result = result if self._result is None else max(self._result, result, key=_weight)

    def describe(self) -> str:
        parts = []
        if self._result is not None:
            metrics = self._result.measured()
            score = metrics.measures.score
            value = f"{score.label}{score.number(metrics.score)}{score.unit.strip()}"
            parts.append(f"best {value} {self._result.trial.describe()}")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return " · ".join(parts)


def _weight(result: TrialResult) -> tuple[int, float]:
    return result.measured().num_examples, result.measured().score


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(
            ""
            if not task.speed
            else f"{task.speed:.1f} trials/s"
            if task.speed >= 1
            else f"{1 / task.speed:.1f} s/trial"
        )


class BarProgress:
    """A live bar with rate, time left and the best trial so far."""

    def __init__(self, console: Console) -> None:
        self._best = _Best()
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[best]}"),
            console=console,
            transient=True,
            speed_estimate_period=300,
        )
        self._task = self._bar.add_task("starting", total=None, best="")

    def start(self, total: int, reused: int) -> None:
        self._bar.update(self._task, total=(self._bar.tasks[0].total or 0) + total, description="trials")
        self._bar.start()

    def result(self, result: TrialResult) -> None:
        self._best.add(result)
        if not result.ok:
            self.note(f"failed: {result.trial.describe()}: {result.error}")
        self._bar.update(self._task, advance=1, best=self._best.describe())

    def note(self, message: str) -> None:
        self._bar.console.print(message, markup=False, emoji=False, highlight=False)

    def stop(self) -> None:
        self._bar.stop()


class LineProgress:
    """A line at the start, one every ten seconds, one at the end, and one for each failure."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._best = _Best()
        self._total = self._done = 0
        self._started = self._printed = time.monotonic()

    def start(self, total: int, reused: int) -> None:
        self._total += total
        if self._done == 0 and total:
            self._started = self._printed = time.monotonic()
            self.note(f"running {total} trials")

    def result(self, result: TrialResult) -> None:
        self._best.add(result)
        self._done += 1
        if not result.ok:
            self.note(f"failed: {result.trial.describe()}: {result.error}")
        now = time.monotonic()
        if now - self._printed >= _LINE_SECONDS or self._done == self._total:
            self._printed = now
            elapsed = max(now - self._started, 1e-9)
            left = elapsed / self._done * (self._total - self._done)
            self.note(
                f"{self._done}/{self._total} trials, {self._done / elapsed:.2f} trials/s, {left:.0f} s left, "
                f"{self._best.describe()}"
            )

    def note(self, message: str) -> None:
        self._console.print(message, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        pass


def make_progress() -> BarProgress | LineProgress:
    """The bar where standard error is a terminal, else lines; standard output is left to the summary."""
    console = Console(file=sys.stderr)
    return BarProgress(console) if console.is_terminal else LineProgress(console)
