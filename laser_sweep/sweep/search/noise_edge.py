"""`search=noise_edge`: ranks at which the spectrum of a matrix stops looking like noise, found without any data.

Two estimates of random-matrix theory for a low-rank signal in white noise: the Marchenko-Pastur edge of a noise level
taken from the median singular value, and the Gavish-Donoho threshold above it. Weights are not signal and white noise,
so these are candidates like any others, measured on val; nothing says that the task agrees with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from laser_sweep.analysis.noise import gavish_donoho_rank, marchenko_pastur_edge
from laser_sweep.probe import Spectrum
from laser_sweep.sweep.protocols import AskSpectra, AskTrials, Candidate, Findings
from laser_sweep.sweep.search.space import Options, Place, Space, grid, places
from laser_sweep.trial import Edit, Matrix, rho_of

_SHOWN = 12
ESTIMATES = {"edge": marchenko_pastur_edge, "Gavish-Donoho": gavish_donoho_rank}


def make_noise_edge(spaces: Sequence[Space]) -> NoiseEdge:
    return NoiseEdge(spaces=tuple(spaces))


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseEdge:
    """Asks for spectra, then for the candidates from them beside the grid. `told` is (place, estimate, ranks)."""

    spaces: tuple[Space, ...]
    candidates: tuple[Candidate, ...] | None = None
    told: tuple[tuple[Place, str, tuple[int, ...]], ...] = ()
    done: bool = False

    def ask(self) -> AskSpectra | AskTrials | None:
        if self.done:
            return None
        if self.candidates is None:
            matrices = dict.fromkeys(matrix for place in places(self.spaces) for matrix in place.matrices)
            return AskSpectra(matrices=tuple(matrices))
        return AskTrials(candidates=self.candidates)

    def tell(self, found: Findings) -> NoiseEdge:
        if self.candidates is not None:
            return replace(self, done=True)
        by_matrix = found.spectra[0]
        ranks = {
            (place, name): tuple(
                estimate(by_matrix[matrix].singular_values, by_matrix[matrix].shape) for matrix in place.matrices
            )
            for place in places(self.spaces)
            for name, estimate in ESTIMATES.items()
        }
        candidates = {candidate.edits: candidate for candidate in grid(self.spaces)}
        for space in self.spaces:
            for options in space.intervention.settings():
                for (place, _), kept in ranks.items():
                    made = _candidate(space, place, options, kept, by_matrix)
                    if place in space.places and any(edit.rho < 1 for edit in made.edits):
                        candidates.setdefault(made.edits, made)
        told = tuple((place, name, kept) for (place, name), kept in ranks.items())
        return replace(self, candidates=tuple(candidates.values()), told=told)

    def notes(self) -> Sequence[str]:
        lines = []
        for name in ESTIMATES:
            ranks = [f"{place} {'+'.join(map(str, kept))}" for place, estimate, kept in self.told if estimate == name]
            more = f", and {len(ranks) - _SHOWN:,} places more" if len(ranks) > _SHOWN else ""
            if ranks:
                lines.append(f"rank above the noise, by {name}: {', '.join(ranks[:_SHOWN])}{more}")
        return lines


def _candidate(
    space: Space, place: Place, options: Options, ranks: Sequence[int], by_matrix: Mapping[Matrix, Spectrum]
) -> Candidate:
    """Each matrix of a place at its own rank."""
    rhos = [rho_of(rank, *by_matrix[matrix].shape) for matrix, rank in zip(place.matrices, ranks, strict=True)]
    edits = tuple(
        Edit(matrix=matrix, rho=rho, method=space.intervention.method, options=options)
        for matrix, rho in zip(place.matrices, rhos, strict=True)
    )
    return Candidate(
        edits=edits,
        intervention=space.intervention.name,
        tau=place.tau,
        layer=place.layer,
        rho=rhos[0] if len(set(rhos)) == 1 else None,
    )
