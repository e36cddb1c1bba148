"""`search=halving`: many candidates on few examples, the better part of them on more, the best on all.

Successive halving (Jamieson & Talwalkar 2016) with examples as the resource. Every rung asks the same examples of all
its candidates, and each rung those of the one before and more, so that what is compared is paired. Candidates go on by
their log-loss, which tells them apart on far fewer examples than accuracy does; the last rung decides by the objective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from laser_sweep.errors import RequestError
from laser_sweep.sweep.protocols import AskTrials, Candidate, Findings
from laser_sweep.sweep.search.space import Space, grid
from laser_sweep.sweep.search.spec import HalvingSpec


def make_halving(spec: HalvingSpec, spaces: Sequence[Space], num_examples: int) -> Halving:
    check_examples(spec.name, spec.min_examples, num_examples)
    rungs = [spec.min_examples]
    while rungs[-1] * spec.reduction < num_examples:
        rungs.append(rungs[-1] * spec.reduction)
    if rungs[-1] < num_examples:
        rungs.append(num_examples)
    return Halving(spec=spec, alive=tuple(grid(spaces)), rungs=tuple(rungs))


def check_examples(search: str, asked: int, there: int) -> None:
    """Raises RequestError where a search would begin with more examples than there are."""
    if asked > there:
        raise RequestError(
            f"search.min_examples={asked} is more than the {there:,} examples of val that search={search} may use; "
            f"give {there} or less"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """`rungs` are the numbers of examples from the one on that comes next; `alive` are the candidates that reach it,
    and `history` is how many reached the rungs before: (examples, candidates)."""

    spec: HalvingSpec
    alive: tuple[Candidate, ...]
    rungs: tuple[int, ...]
    history: tuple[tuple[int, int], ...] = ()

    def ask(self) -> AskTrials | None:
        return AskTrials(candidates=self.alive, limit=self.rungs[0]) if self.rungs and self.alive else None

    def tell(self, found: Findings) -> Halving:
        measured = [candidate for candidate in self.alive if candidate.edits in found.scores]
        # All have the same examples, so the order of the losses is that of their paired differences to any of them.
        best = sorted(measured, key=lambda candidate: found.scores[candidate.edits].loss)
        kept = max(1, -(-len(self.alive) // self.spec.reduction))
        alive = set(best[:kept])
        return replace(
            self,
            alive=tuple(candidate for candidate in self.alive if candidate in alive),
            rungs=self.rungs[1:],
            history=(*self.history, (self.rungs[0], len(self.alive))),
        )

    def notes(self) -> Sequence[str]:
        steps = ", ".join(f"{candidates:,} on {examples:,} examples" for examples, candidates in self.history)
        return [f"successive halving: {steps}"]
