"""`search=gradient`: one backward pass scores every place, and only the most promising ones are searched.

After "Compress to Impress" (arXiv 2510.20800): the gradient of the loss along a singular value says whether the loss
falls when the value shrinks. Gradients here are those of the loss, so that a positive one speaks for removal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from laser_sweep.analysis.spectra import last20, predicted_gain
from laser_sweep.probe import Spectrum
from laser_sweep.sweep.protocols import AskSpectra, AskTrials, Findings
from laser_sweep.sweep.search.space import Place, Space, grid, places
from laser_sweep.sweep.search.spec import GradientSpec
from laser_sweep.trial import Matrix, rank_of


def make_gradient(spec: GradientSpec, spaces: Sequence[Space]) -> Gradient:
    return Gradient(spec=spec, spaces=tuple(spaces))


_SHOWN = 5  # of the places that were not searched


def _sum(scores: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Scores added up, with the standard error of a sum of independent terms."""
    listed = list(scores)
    return sum(score for score, _ in listed), math.sqrt(sum(stderr**2 for _, stderr in listed))


@dataclass(frozen=True, slots=True)
class ScoredPlace:
    """What the gradients say of a place, with the standard error over the examples."""

    place: Place
    score: float
    stderr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """Asks for the spectra of all places, then for the grid of the best. `scored` is best first, once it is known."""

    spec: GradientSpec
    spaces: tuple[Space, ...]
    scored: tuple[ScoredPlace, ...] | None = None
    done: bool = False

    def ask(self) -> AskSpectra | AskTrials | None:
        if self.done:
            return None
        if self.scored is None:
            matrices = dict.fromkeys(matrix for place in places(self.spaces) for matrix in place.matrices)
            return AskSpectra(matrices=tuple(matrices), samples=self.spec.gradient_samples)
        best = {scored.place for scored in self.scored[: self.spec.top_matrices]}
        return AskTrials(candidates=tuple(grid(self.spaces, best)))

    def tell(self, found: Findings) -> Gradient:
        if self.scored is not None:
            return replace(self, done=True)
        scored = [self._score(place, found.spectra) for place in places(self.spaces)]
        return replace(self, scored=tuple(sorted(scored, key=lambda one: -one.score)))

    def _score(self, place: Place, spectra: Sequence[Mapping[Matrix, Spectrum]]) -> ScoredPlace:
        """To first order the effects of several matrices add up, so a place has the sum of theirs; of several data sets
        the mean counts."""
        rhos = sorted({rho for space in self.spaces if place in space.places for rho in space.rhos if rho < 1})
        found = []
        for by_matrix in spectra:
            members = [by_matrix[matrix] for matrix in place.matrices]
            if self.spec.score == "last20":
                found.append(_sum(last20(one) for one in members))
            else:
                found.append(
                    max(_sum(predicted_gain(one, [rank_of(rho, *one.shape)])[:2] for one in members) for rho in rhos)
                )
        score, stderr = _sum(found)
        return ScoredPlace(place, score / len(found), stderr / len(found))

    def notes(self) -> Sequence[str]:
        if self.scored is None:
            return ()
        words = {
            "predicted_gain": "predicted gain, nats",
            "last20": "slope of the last 20, nats",
        }
        told = [f"{one.place} {one.score:.3g} ± {one.stderr:.1g}" for one in self.scored]
        top = self.spec.top_matrices
        lines = [
            f"gradients on {self.spec.gradient_samples} examples scored {len(told)} places ({words[self.spec.score]}); "
            f"searched: {', '.join(told[:top])}"
        ]
        return [*lines, *([f"next, not searched: {', '.join(told[top : top + _SHOWN])}"] if told[top:] else [])]
