"""What a person sees while a sweep runs."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.progress import BarProgress, LineProgress, make_progress
from laser_sweep.trial import TrialResult

MakeJob = Callable[..., Job]
Answered = Callable[..., TrialResult]


class Clock:
    """A monotonic clock that stands still until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def results(make_job: MakeJob, answered: Answered) -> list[TrialResult]:
    """Untouched 50 %, then layers 0, 1, 2 with 25 %, 75 % and 50 %."""
    job = make_job()
    trials = [job.untouched("val"), *job.trials("val")]
    right = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0]]
    return [answered(trial, correct) for trial, correct in zip(trials, right, strict=True)]


@pytest.fixture
def failed(make_job: MakeJob) -> TrialResult:
    return TrialResult(trial=make_job().trials("val")[1], status="failed", error="[red]it[/red] broke :boom:")


def plain() -> Console:
    return Console(file=io.StringIO(), width=40)


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_lines_tell_the_start_and_the_end(clock: Clock, results: list[TrialResult]) -> None:
    console = plain()
    progress = LineProgress(console)
    progress.start(4, 0)
    for result in results:
        clock.now += 2
        progress.result(result)
    progress.stop()
    first, last = printed(console)
    assert first == "running 4 trials"
    assert last == "4/4 trials, 0.50 trials/s, 0 s left, best 75.0% fc_in[1] rho=0.1"


def test_a_line_comes_every_ten_seconds_with_the_time_left(clock: Clock, results: list[TrialResult]) -> None:
    console = plain()
    progress = LineProgress(console)
    progress.start(1000, 0)
    for _ in range(60):
        clock.now += 0.5
        progress.result(results[0])
    lines = printed(console)[1:]
    assert [line.split()[0] for line in lines] == ["20/1000", "40/1000", "60/1000"]
    assert "2.00 trials/s, 490 s left" in lines[0]
    assert "2.00 trials/s, 470 s left" in lines[2]


def test_a_failure_is_told_at_once_as_it_is_spelled(clock: Clock, failed: TrialResult) -> None:
    console = plain()
    progress = LineProgress(console)
    progress.start(1000, 0)
    progress.result(failed)
    assert printed(console)[-1] == "failed: fc_in[1] rho=0.1: [red]it[/red] broke :boom:"


def test_failures_are_counted(clock: Clock, results: list[TrialResult], failed: TrialResult) -> None:
    console = plain()
    progress = LineProgress(console)
    progress.start(2, 0)
    progress.result(results[0])
    progress.result(failed)
    assert printed(console)[-1].endswith("best 50.0% untouched · 1 failed")


def test_the_best_trial_is_the_best_on_val(clock: Clock, make_job: MakeJob, answered: Answered) -> None:
    console = plain()
    progress = LineProgress(console)
    progress.start(2, 0)
    progress.result(answered(make_job().trials("val")[0], [True, False]))
    progress.result(answered(make_job().trials("test")[1], [True, True]))
    assert printed(console)[-1].endswith("best 50.0% fc_in[0] rho=0.1")


def test_trials_that_are_added_later_count_too(clock: Clock, results: list[TrialResult]) -> None:
    """The confirmation on test starts when the search has ended."""
    console = plain()
    progress = LineProgress(console)
    progress.start(3, 0)
    for result in results[:3]:
        clock.now += 1
        progress.result(result)
    progress.start(1, 0)
    clock.now += 1
    progress.result(results[3])
    assert [line.split()[0] for line in printed(console)] == ["running", "3/3", "4/4"]


def screen(console: Console) -> str:
    """What a terminal got, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n")


def terminal() -> Console:
    return Console(file=io.StringIO(), width=150, force_terminal=True, legacy_windows=False, color_system=None)


def test_a_bar_shows_how_many_are_done_and_the_best_so_far(results: list[TrialResult]) -> None:
    console = terminal()
    progress = BarProgress(console)
    progress.start(4, 0)
    for result in results[:3]:
        progress.result(result)
    progress.stop()
    last = [line for line in screen(console).splitlines() if "trials" in line][-1]
    assert "3/4" in last
    assert "best 75.0% fc_in[1] rho=0.1" in last


def test_a_bar_grows_when_trials_are_added(results: list[TrialResult]) -> None:
    console = terminal()
    progress = BarProgress(console)
    progress.start(3, 0)
    for result in results[:3]:
        progress.result(result)
    progress.start(1, 0)
    progress.result(results[3])
    progress.stop()
    assert "4/4" in screen(console)


def test_a_failure_stands_above_the_bar(results: list[TrialResult], failed: TrialResult) -> None:
    console = terminal()
    progress = BarProgress(console)
    progress.start(2, 0)
    progress.result(results[0])
    progress.result(failed)
    progress.note("stopping: [now]")
    progress.stop()
    text = screen(console)
    assert "failed: fc_in[1] rho=0.1: [red]it[/red] broke :boom:" in text
    assert "1 failed" in text
    assert "stopping: [now]" in text


def test_stopping_a_bar_that_never_started_is_harmless() -> None:
    BarProgress(terminal()).stop()


def test_progress_goes_to_standard_error_in_lines_where_that_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = make_progress()
    assert isinstance(progress, LineProgress)
    progress.start(3, 0)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "running 3 trials\n")
