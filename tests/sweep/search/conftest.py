"""Spaces without a model, and answers to what a search asks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from laser_sweep.probe import Curve, Slopes, Spectrum
from laser_sweep.sweep.protocols import AskSpectra, AskTrials, Findings, Score, Search
from laser_sweep.sweep.search.space import Intervention, Place, Space
from laser_sweep.trial import Edit, ExampleScores, Matrix

LASER = Intervention(name="laser", method="laser")
Edits = tuple[Edit, ...]


@pytest.fixture(scope="session")
def make_space() -> Callable[..., Space]:
    def make(
        *,
        tau: Sequence[str] = ("fc_in", "fc_out"),
        layer: Sequence[int] = (0, 1, 2),
        rho: Sequence[float] = (0.5, 0.1),
        places: Sequence[Place] | None = None,
        intervention: Intervention = LASER,
    ) -> Space:
        """Every combination of one matrix, and a fraction."""
        there = places or [Place(t, at, (Matrix(t, at),)) for t in tau for at in layer]
        return Space(intervention=intervention, places=tuple(there), rhos=tuple(rho))

    return make


@pytest.fixture(scope="session")
def make_spectrum() -> Callable[..., Spectrum]:
    def make(
        matrix: Matrix, sigma: Sequence[float] | Curve, slope: Sequence[float] | None = None, longer: int = 0
    ) -> Spectrum:
        """Of a matrix of as many rows as it has singular values `sigma`, and `longer` columns more. What removing all
        directions from one on is worth is added up one by one; standard errors are a tenth."""
        slopes = None
        if slope is not None:
            gains = [sum(s * g for s, g in zip(sigma[k:], slope[k:], strict=True)) for k in range(len(slope))]
            last20 = sum(max(0.0, g) for g in slope[-20:])
            slopes = Slopes(
                num_examples=10,
                values=np.array(slope),
                values_stderr=np.abs(np.array(slope)) / 10,
                gains=np.array(gains),
                gains_stderr=np.abs(np.array(gains)) / 10,
                last20=last20,
                last20_stderr=last20 / 10,
            )
        size = len(sigma)
        return Spectrum(
            matrix=matrix, shape=(size, size + longer), singular_values=np.array(sigma, dtype=np.float64), slopes=slopes
        )

    return make


@dataclass(frozen=True)
class Oracle:
    """Answers a search: what edits are worth, as (accuracy, log-loss), where they did not fail, and spectra."""

    worth: Callable[[Edits], tuple[float, float]]
    spectra: Callable[[Matrix], Spectrum] | None = None
    failed: Collection[Edits] = ()
    refused: Collection[Edits] = ()
    num_examples: int = 64

    def answer(self, ask: AskTrials | AskSpectra) -> Findings:
        if isinstance(ask, AskSpectra):
            assert self.spectra is not None
            return Findings(spectra=({matrix: self.spectra(matrix) for matrix in ask.matrices},))
        asked: list[Edits] = [(), *(candidate.edits for candidate in ask.candidates)]
        return Findings(scores={edits: self._score(edits, ask) for edits in asked if edits not in self.failed})

    def _score(self, edits: Edits, ask: AskTrials) -> Score:
        accuracy, log_loss = self.worth(edits)
        examples = None
        if ask.by_example:
            there = self.num_examples
            hard = ((np.random.default_rng(there).permutation(there) + 0.5) / there)[: ask.limit]
            ids = tuple(map(str, range(len(hard))))
            examples = ExampleScores(ids, hard < accuracy, log_loss + hard - 0.5)
        return Score(value=(accuracy, -log_loss), loss=log_loss, examples=examples, allowed=edits not in self.refused)

    def finish(self, search: Search) -> tuple[Search, list[AskTrials | AskSpectra]]:
        """The search at its end, and all that it asked."""
        asks: list[AskTrials | AskSpectra] = []
        while (ask := search.ask()) is not None:
            assert len(asks) < 1000, "the search never ends"
            asks.append(ask)
            search = search.tell(self.answer(ask))
        return search, asks


@pytest.fixture(scope="session")
def make_oracle() -> type[Oracle]:
    return Oracle
