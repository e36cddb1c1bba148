"""`search=greedy`: edits of several layers on top of each other, kept as long as val gets no worse.

The composition of the LASER paper (Sharma et al. 2024): from the last layer down, at each place ρ is lowered step by
step; a step that makes val worse is taken back, and the next place is tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from laser_sweep.errors import RequestError
from laser_sweep.sweep.protocols import AskTrials, Candidate, Findings
from laser_sweep.sweep.search.space import Place, Space
from laser_sweep.sweep.search.spec import GreedySpec
from laser_sweep.trial import Edit


def check_greedy(spaces: Sequence[Space]) -> None:
    """Raises RequestError where more than ρ is to be varied at a place."""
    settings = {(space.intervention.name, options) for space in spaces for options in space.intervention.settings()}
    if len(spaces) > 1 or len(settings) > 1:
        raise RequestError(
            "search=greedy lowers rho alone, place by place; give one intervention and one value to each of its options"
        )


def make_greedy(spec: GreedySpec, spaces: Sequence[Space]) -> Greedy:
    [space] = spaces
    places = sorted(space.places, key=lambda place: -max(matrix.layer for matrix in place.matrices))
    rhos = sorted({rho for rho in space.rhos if rho < 1}, reverse=True)
    steps = tuple((place, rho) for place in places for rho in rhos)
    return Greedy(spec=spec, space=space, steps=steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy:
    """`steps` are those that are left, `kept` is the edit of each place that has one; `value` is what val says of them,
    None before the first answer. `path` tells the steps that were tried: place, ρ,
    what decides (None where the trial failed), kept or not."""

    spec: GreedySpec
    space: Space
    steps: tuple[tuple[Place, float], ...]
    kept: tuple[tuple[Place, float], ...] = ()
    value: tuple[float, float] | None = None
    path: tuple[tuple[Place, float, float | None, bool], ...] = ()

    def ask(self) -> AskTrials | None:
        if not self.steps or len(self.path) == self.spec.max_trials:
            return None
        return AskTrials(candidates=(self._candidate(self._with_step()),), guarded=True)

    def tell(self, found: Findings) -> Greedy:
        place, rho = self.steps[0]
        untouched = found.scores.get(())
        before = self.value if self.value is not None or untouched is None else untouched.value
        score = found.scores.get(self._candidate(self._with_step()).edits)
        if score is not None and score.allowed and before is not None and score.value >= before:
            path = (*self.path, (place, rho, score.value[0], True))
            return replace(self, kept=self._with_step(), value=score.value, steps=self.steps[1:], path=path)
        path = (*self.path, (place, rho, None if score is None else score.value[0], False))
        others = tuple(step for step in self.steps if step[0] != place)
        return replace(self, steps=others, value=before, path=path)

    def _with_step(self) -> tuple[tuple[Place, float], ...]:
        """What is kept, with the next step in the place of what its place has."""
        step = self.steps[0]
        return (*(kept for kept in self.kept if kept[0] != step[0]), step)

    def _candidate(self, kept: Sequence[tuple[Place, float]]) -> Candidate:
        """The edits of all places together. Places may overlap; what came last counts."""
        [options] = self.space.intervention.settings()
        parts = [self.space.candidate(place, rho, options) for place, rho in kept]
        if len(parts) == 1:
            return parts[0]
        by_matrix: dict[object, Edit] = {edit.matrix: edit for part in parts for edit in part.edits}
        return Candidate(edits=tuple(sorted(by_matrix.values())), intervention=self.space.intervention.name)

    def notes(self) -> Sequence[str]:
        kept = ", ".join(f"{place} rho={rho:g}" for place, rho in self.kept) or "nothing"
        left = f"; {len(self.steps)} steps were left when search.max_trials={self.spec.max_trials} was reached"
        return [f"greedy composition kept {kept} in {len(self.path)} steps{left if self.steps else ''}"]
