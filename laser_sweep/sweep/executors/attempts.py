"""How often work is tried that its worker did not survive."""

from __future__ import annotations

import time
from dataclasses import dataclass

from laser_sweep.probe import Probe, ProbeResult
from laser_sweep.sweep.protocols import Work, WorkResult
from laser_sweep.trial import TrialResult


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a worker was lost, in one line."""

    reason: str
    out_of_memory: bool = False


class Attempts:
    """Counts the attempts at each piece of work, of which there are at most `most`.

    What ran out of memory has one more attempt, on a fresh worker with half the batch.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, int] = {}
        self._out_of_memory: set[str] = set()

    def begin(self, work: Work) -> None:
        self._counts[work.key] = self.count(work) + 1

    def count(self, work: Work) -> int:
        """How often it has been begun."""
        return self._counts.get(work.key, 0)

    def give_up(self, work: Work, loss: Loss) -> WorkResult | None:
        """The failed result of work that is not tried again after its worker was lost, None where it is."""
        if loss.out_of_memory and work.key in self._out_of_memory:
            return self.failed(work, f"out of memory, with half the batch, too: {loss.reason}")
        if self.count(work) >= self._most:
            return self.failed(work, f"{loss.reason} (attempt {self.count(work)} of {self._most})")
        if loss.out_of_memory:
            self._out_of_memory.add(work.key)
        return None

    def failed(self, work: Work, reason: str) -> WorkResult:
        """The result of work of which its worker cannot tell."""
        now, attempt = time.time(), self.count(work)
        if isinstance(work, Probe):
            return ProbeResult(
                probe=work, status="failed", error=reason, attempt=attempt, started_at=now, finished_at=now
            )
        return TrialResult(trial=work, status="failed", error=reason, attempt=attempt, started_at=now, finished_at=now)
