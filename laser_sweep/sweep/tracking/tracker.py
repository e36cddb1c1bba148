"""A tracker that does nothing, and a guard that keeps any tracker from harming a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread
from typing import Literal, TypeAlias, TypeVar

from laser_sweep.sweep.protocols import Tracker
from laser_sweep.trial import TrialResult

Granularity: TypeAlias = Literal["sweep", "trial"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingSpec:
    """What the `tracking` config group says. `mode=auto` is online where there is a key, else offline."""

    kind: Literal["none", "wandb"] = "none"
    project: str = "laser-sweep"
    entity: str | None = None
    mode: Literal["auto", "online", "offline"] = "auto"
    granularity: Granularity = "sweep"
    dir: str = "outputs"


class NullTracker:
    """Tells nobody; other trackers may start from it."""

    def start(self, sweep: str, config_json: str) -> None:
        pass

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        pass

    def finish(self) -> str | None:
        return None

    def abandon(self) -> None:
        pass


class GuardedTracker:
    """Passes everything on to a tracker until it raises; then it warns once, and only lets it finish.

    What a tracker has been told before is closed that way, so that it can be read or uploaded. A thread of its own
    tells it, so that a sweep never waits for a tracker that is slow, but at the end: `patience` seconds after its last
    sign of life the tracker is left behind.
    """

    def __init__(self, tracker: Tracker, warn: Callable[[str], None], *, patience: float = 180.0) -> None:
        self._tracker = tracker
        self._warn = warn
        self._patience = patience
        self._failed = False
        self._calls: SimpleQueue[Callable[[], str | None] | None] = SimpleQueue()
        self._answered = Event()
        self._answer: str | None = None
        self._thread: Thread | None = None

    def start(self, sweep: str, config_json: str) -> None:
        self._tell(lambda: self._tracker.start(sweep, config_json))

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        self._tell(lambda: self._tracker.trial(result, sweep, config_json))

    def finish(self) -> str | None:
        self._calls.put(None)
        thread = self._running()
        while thread.is_alive():
            self._answered.clear()
            thread.join(self._patience)
            if not self._answered.is_set() and thread.is_alive():
                self._fail(f"no answer for {self._patience:g} s")
                self.abandon()
                return None
        return self._answer

    def abandon(self) -> None:
        self._tracker.abandon()

    def _tell(self, call: Callable[[], None]) -> None:
        if not self._failed:
            self._calls.put(call)
            self._running()

    def _running(self) -> Thread:
        if self._thread is None:
            self._thread = Thread(target=self._pass_on, name="tracker", daemon=True)
            self._thread.start()
        return self._thread

    def _pass_on(self) -> None:
        while (call := self._calls.get()) is not None:
            if not self._failed:
                self._guard(call)
            self._answered.set()
        self._answer = self._guard(self._tracker.finish)

    def _guard(self, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except Exception as error:
            self._fail(f"{type(error).__name__}: {' '.join(str(error).split())}")
            return None

    def _fail(self, reason: str) -> None:
        if not self._failed:
            self._failed = True
            self._warn(
                f"tracking stopped, the sweep goes on: {reason}; python -m laser_sweep.store sync tracks what is stored"
            )
