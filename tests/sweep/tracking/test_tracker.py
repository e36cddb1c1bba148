"""A tracker that fails must cost nothing but its own reports."""

from __future__ import annotations

import threading
import time

import pytest

from laser_sweep.sweep.tracking.tracker import GuardedTracker, NullTracker
from laser_sweep.trial import Evaluation, ModelId, Trial, TrialResult

RESULT = TrialResult(
    trial=Trial(
        model=ModelId(name="m", repo="m", revision="1", dtype="float32"),
        edits=(),
        evaluation=Evaluation(dataset="d", revision="1", split="val"),
    ),
    status="failed",
    error="it broke",
)


class Recorder(NullTracker):
    """Writes down its calls and fails in some of them."""

    def __init__(self, *fails_in: str, error: BaseException | None = None) -> None:
        self.fails_in = fails_in
        self.error = error or RuntimeError("no\n  network")
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails_in:
            raise self.error

    def start(self, sweep: str, config_json: str) -> None:
        self._called("start")

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        self._called("trial")

    def finish(self) -> str | None:
        self._called("finish")
        return "https://there"


def tell(tracker: NullTracker | GuardedTracker) -> str | None:
    tracker.start("sweep", "{}")
    tracker.trial(RESULT, "sweep", "{}")
    tracker.trial(RESULT, "sweep", "{}")
    return tracker.finish()


def test_a_guard_passes_everything_on() -> None:
    recorder, warnings = Recorder(), []
    assert tell(GuardedTracker(recorder, warnings.append)) == "https://there"
    assert recorder.calls == ["start", "trial", "trial", "finish"]
    assert warnings == []


@pytest.mark.parametrize(
    ("fails_in", "reached", "said"),
    [
        (["start"], ["start", "finish"], "https://there"),
        (["trial"], ["start", "trial", "finish"], "https://there"),
        (["finish"], ["start", "trial", "trial", "finish"], None),
        (["trial", "finish"], ["start", "trial", "finish"], None),
    ],
)
def test_a_guard_warns_once_and_then_only_lets_the_tracker_finish(
    fails_in: list[str], reached: list[str], said: str | None
) -> None:
    recorder, warnings = Recorder(*fails_in), []
    assert tell(GuardedTracker(recorder, warnings.append)) == said
    assert recorder.calls == reached
    [warning] = warnings
    assert warning.startswith("tracking stopped, the sweep goes on: RuntimeError: no network")
    assert "laser_sweep.store sync" in warning


@pytest.mark.parametrize("hangs_in", ["start", "trial", "finish"])
def test_a_sweep_never_waits_for_a_tracker_and_leaves_one_that_does_not_answer_behind(hangs_in: str) -> None:
    class Hanging(Recorder):
        def _called(self, name: str) -> None:
            if name == hangs_in:
                released.wait(60)
            super()._called(name)

        def abandon(self) -> None:
            self.calls.append("abandon")

    released, warnings = threading.Event(), []
    started = time.monotonic()
    hanging = Hanging()
    assert tell(GuardedTracker(hanging, warnings.append, patience=0.5)) is None
    assert hanging.calls[-1] == "abandon"
    assert 0.5 <= time.monotonic() - started < 10
    released.set()
    [warning] = warnings
    assert warning.startswith(
        "tracking stopped, the sweep goes on: no answer for 0.5 s; python -m laser_sweep.store sync"
    )


def test_a_tracker_that_is_slow_but_answers_is_waited_for() -> None:
    class Slow(Recorder):
        def _called(self, name: str) -> None:
            time.sleep(0.4)
            super()._called(name)

    recorder, warnings = Slow(), []
    tracker = GuardedTracker(recorder, warnings.append, patience=2)
    started = time.monotonic()
    for _ in range(10):
        tracker.trial(RESULT, "sweep", "{}")
    assert time.monotonic() - started < 0.4
    assert tracker.finish() == "https://there"
    assert recorder.calls == [*["trial"] * 10, "finish"]
    assert warnings == []


def test_no_tracker_says_nothing() -> None:
    assert tell(NullTracker()) is None
