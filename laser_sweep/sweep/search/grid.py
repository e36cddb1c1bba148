"""`search=grid`: every candidate on all of val."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from laser_sweep.sweep.protocols import AskTrials, Candidate, Findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Asks for all candidates at once."""

    candidates: tuple[Candidate, ...]
    done: bool = False

    def ask(self) -> AskTrials | None:
        return None if self.done else AskTrials(candidates=self.candidates)

    def tell(self, found: Findings) -> Grid:
        return replace(self, done=True)

    def notes(self) -> Sequence[str]:
        return ()
