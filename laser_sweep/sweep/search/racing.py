"""`search=racing`: a candidate is dropped as soon as the examples show that it is worse than the best one.

What shows it is evidence that stays valid however often one looks (an e-value reaches 1 / error with a chance of at
most `error`, by Ville's inequality), so that looking after 32, 64, 128 … examples costs nothing. For accuracy it is a
one-sided e-value for the McNemar comparison of candidate and leader, for log-loss an empirical-Bernstein bound of their
mean difference. The level is shared by the comparisons that one candidate can lose, to the others and to the untouched
model: then the best of all, in truth, is dropped with a chance of at most `error`, where val's examples are independent
draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from laser_sweep.analysis.anytime import bernstein_lower, e_mcnemar
from laser_sweep.errors import RequestError
from laser_sweep.measures import Objective
from laser_sweep.sweep.protocols import AskTrials, Candidate, Findings, Score
from laser_sweep.sweep.search.halving import check_examples
from laser_sweep.sweep.search.space import Space, grid
from laser_sweep.sweep.search.spec import RacingSpec
from laser_sweep.trial import Edit

LARGEST_DIFFERENCE = 1.0
"""Differences of log-loss, in nats, are cut to ± this, as the bound is for bounded values: what is compared then is the
mean of the cut differences, on which no single example has much weight. A wider range takes many more examples."""


def check_racing(objective: Objective) -> None:
    """Raises RequestError for an objective that pairs no examples."""
    if objective.startswith("mean"):
        raise RequestError(
            f"search=racing compares on the examples of one data set, which objective={objective} has not; "
            "give objective=accuracy or log_loss, or search=halving"
        )


def make_racing(spec: RacingSpec, spaces: Sequence[Space], objective: Objective, num_examples: int) -> Racing:
    check_examples(spec.name, spec.min_examples, num_examples)
    candidates = tuple(grid(spaces))
    return Racing(
        spec=spec,
        objective=objective,
        alive=candidates,
        num_candidates=len(candidates),
        num_examples=num_examples,
        asked=spec.min_examples,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Racing:
    """`asked` is the number of examples that comes next, None at the end; `history` as in halving."""

    spec: RacingSpec
    objective: Objective
    alive: tuple[Candidate, ...]
    num_candidates: int
    num_examples: int
    asked: int | None
    history: tuple[tuple[int, int], ...] = ()

    def ask(self) -> AskTrials | None:
        if self.asked is None or not self.alive:
            return None
        return AskTrials(candidates=self.alive, limit=self.asked, by_example=True)

    def tell(self, found: Findings) -> Racing:
        assert self.asked is not None
        last = self.asked >= self.num_examples
        alive = self.alive if last else self._survivors(found.scores)
        more = self.num_examples if len(alive) == 1 else min(2 * self.asked, self.num_examples)
        return replace(
            self,
            alive=alive,
            asked=None if last else more,
            history=(*self.history, (self.asked, len(self.alive))),
        )

    def _survivors(self, scores: Mapping[tuple[Edit, ...], Score]) -> tuple[Candidate, ...]:
        """Those that neither another candidate nor the untouched model has been shown to be better than."""
        measured = [candidate for candidate in self.alive if candidate.edits in scores]
        if not measured:
            return ()
        leader = max(scores.values(), key=lambda score: score.value)
        level = self.spec.error / self.num_candidates  # what one candidate can lose to: the others, and no edit
        return tuple(candidate for candidate in measured if not self._beaten(scores[candidate.edits], leader, level))

    def _beaten(self, score: Score, leader: Score, level: float) -> bool:
        """Whether the leader has been shown to be better."""
        assert score.examples is not None
        assert leader.examples is not None
        if self.objective == "accuracy":
            ours, theirs = score.examples.scores, leader.examples.scores
            return bool(e_mcnemar(int((theirs > ours).sum()), int((ours > theirs).sum())) >= -math.log(level))
        difference = score.examples.losses - leader.examples.losses
        cut = np.clip(difference, -LARGEST_DIFFERENCE, LARGEST_DIFFERENCE)
        lower = bernstein_lower(cut, -LARGEST_DIFFERENCE, LARGEST_DIFFERENCE, level)
        return bool(lower[-1] > 0)

    def notes(self) -> Sequence[str]:
        steps = ", ".join(f"{candidates:,} on {examples:,} examples" for examples, candidates in self.history)
        return [f"racing (the best is dropped with a chance of at most {self.spec.error:g}): {steps}"]
