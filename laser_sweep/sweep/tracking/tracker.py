"""A tracker that does nothing, and a guard that keeps any tracker from harming a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


class GuardedTracker:
    """Passes everything on to a tracker until it raises; then it warns once, and only lets it finish.

    What a tracker has been told before is closed that way, so that it can be read or uploaded.
    """

    def __init__(self, tracker: Tracker, warn: Callable[[str], None]) -> None:
        self._tracker = tracker
        self._warn = warn
        self._failed = False

    def start(self, sweep: str, config_json: str) -> None:
        if not self._failed:
            self._guard(lambda: self._tracker.start(sweep, config_json))

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        if not self._failed:
            self._guard(lambda: self._tracker.trial(result, sweep, config_json))

    def finish(self) -> str | None:
        return self._guard(lambda: self._tracker.finish())

    def _guard(self, call: Callable[[], T]) -> T | None:
        try:
            return call()
        except Exception as error:
            if not self._failed:
                reason = " ".join(str(error).split())
                self._warn(
                    f"tracking stopped, the sweep goes on: {type(error).__name__}: {reason}; "
                    "python -m laser_sweep.store sync tracks what is stored"
                )
            self._failed = True
            return None
