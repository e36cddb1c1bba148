"""Ranks from spectra alone: what was planted in noise is what is kept, and no example is looked at to find it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.probe import Probe, ProbeResult, Spectrum
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.protocols import AskSpectra, AskTrials, Findings
from laser_sweep.sweep.search.registry import make_search
from laser_sweep.sweep.search.space import Intervention, Place, Space
from laser_sweep.sweep.search.spec import NoiseEdgeSpec
from laser_sweep.trial import Matrix, rank_of, rho_of

MakeSpace = Callable[..., Space]
MakeJob = Callable[..., Job]
Run = Callable[..., Any]

RANKS = {"fc_in[0]": 3, "fc_in[1]": 11, "fc_out[0]": 1, "fc_out[1]": 20}
SHAPES = {"fc_in": (120, 300), "fc_out": (300, 120)}


def spectrum_of(dense: np.ndarray, matrix: Matrix) -> Spectrum:
    return Spectrum(matrix=matrix, shape=dense.shape, singular_values=np.linalg.svd(dense, compute_uv=False))


def planted(matrix: Matrix, rank: int | None = None) -> Spectrum:
    """That of a few directions of twice to four times the largest of the noise around them, by numpy's own SVD."""
    rows, columns = SHAPES[matrix.tau]
    rank = RANKS[str(matrix)] if rank is None else rank
    random = np.random.default_rng([rank, matrix.layer, rows])
    u = np.linalg.qr(random.standard_normal((rows, rank)))[0]
    v = np.linalg.qr(random.standard_normal((columns, rank)))[0]
    strengths = 0.02 * (math.sqrt(rows) + math.sqrt(columns)) * np.linspace(2, 4, rank)
    return spectrum_of((u * strengths) @ v.T + 0.02 * random.standard_normal((rows, columns)), matrix)


def seen(*spaces: Space, look: Callable[[Matrix], Spectrum] = planted) -> Any:
    """The search once it has seen the spectra that it asked for."""
    search = make_search(NoiseEdgeSpec(), spaces, "accuracy", 100, 0)
    ask = search.ask()
    assert isinstance(ask, AskSpectra)
    assert ask.samples is None
    return search.tell(Findings(spectra=({matrix: look(matrix) for matrix in ask.matrices},)))


def kept(search: Any) -> list[tuple[str, list[int]]]:
    """Place and ranks of every candidate that is asked for, in full."""
    ask = search.ask()
    assert isinstance(ask, AskTrials)
    assert ask.limit is None
    assert search.tell(Findings()).ask() is None
    return [(f"{c.tau}[{c.layer}]", [rank_of(e.rho, *SHAPES[e.matrix.tau]) for e in c.edits]) for c in ask.candidates]


# Which ranks


def test_a_candidate_has_the_rank_that_was_planted(make_space: MakeSpace) -> None:
    """Both estimates agree on it, so it is one candidate."""
    assert kept(seen(make_space(layer=(0, 1), rho=(1.0,)))) == [(place, [rank]) for place, rank in RANKS.items()]


def test_where_the_estimates_disagree_there_is_a_candidate_for_each(make_space: MakeSpace) -> None:
    """A direction hardly above the edge of the noise is kept by the one and is more noise than signal to the other."""
    rows, columns = SHAPES["fc_in"]
    random = np.random.default_rng(5)
    noise = np.linalg.svd(0.02 * random.standard_normal((rows, columns)), compute_uv=False)
    edge = 0.02 * (math.sqrt(rows) + math.sqrt(columns))
    values = np.sort(np.minimum(noise, 0.99 * edge))[::-1]
    values[:3] = [3 * edge, 2 * edge, 1.04 * edge]

    def look(matrix: Matrix) -> Spectrum:
        return Spectrum(matrix=matrix, shape=(rows, columns), singular_values=values)

    search = seen(make_space(tau=("fc_in",), layer=(0,), rho=(1.0,)), look=look)
    assert kept(search) == [("fc_in[0]", [3]), ("fc_in[0]", [2])]
    assert search.notes() == [
        "rank above the noise, by edge: fc_in[0] 3",
        "rank above the noise, by Gavish-Donoho: fc_in[0] 2",
    ]


def test_each_matrix_of_a_place_is_kept_at_its_own_rank(make_space: MakeSpace) -> None:
    places = [Place("mlp", 1, (Matrix("fc_in", 1), Matrix("fc_out", 1)))]
    search = seen(make_space(places=places, rho=(1.0,)))
    assert kept(search) == [("mlp[1]", [11, 20])]
    [candidate] = search.ask().candidates
    assert candidate.rho is None
    assert search.notes()[0] == "rank above the noise, by edge: mlp[1] 11+20"


def test_matrices_of_the_same_rank_and_shape_share_a_rho(make_space: MakeSpace) -> None:
    places = [Place("fc_in", None, (Matrix("fc_in", 0), Matrix("fc_in", 1)))]
    search = seen(make_space(places=places, rho=(1.0,)), look=lambda matrix: planted(matrix, 6))
    [candidate] = search.ask().candidates
    assert rank_of(candidate.rho, *SHAPES["fc_in"]) == 6


def test_fractions_that_are_asked_for_stand_beside_the_ranks_found(make_space: MakeSpace) -> None:
    search = seen(make_space(tau=("fc_in",), layer=(0, 1), rho=(0.5, 1.0)))
    assert sorted(kept(search)) == [("fc_in[0]", [3]), ("fc_in[0]", [60]), ("fc_in[1]", [11]), ("fc_in[1]", [60])]


def test_of_a_matrix_of_noise_alone_nothing_is_kept(make_space: MakeSpace) -> None:
    noise = 0.02 * np.random.default_rng(9).standard_normal(SHAPES["fc_in"])
    search = seen(make_space(tau=("fc_in",), layer=(0,), rho=(1.0,)), look=lambda matrix: spectrum_of(noise, matrix))
    assert ("fc_in[0]", [0]) in kept(search)


def test_of_a_matrix_without_noise_all_directions_are_kept_that_there_are(make_space: MakeSpace) -> None:
    def look(matrix: Matrix) -> Spectrum:
        values = np.concatenate([np.linspace(3, 0.01, 25), np.zeros(95)])
        return Spectrum(matrix=matrix, shape=SHAPES["fc_in"], singular_values=values)

    assert kept(seen(make_space(tau=("fc_in",), layer=(0,), rho=(1.0,)), look=look)) == [("fc_in[0]", [25])]


def test_every_option_of_an_intervention_is_tried_at_the_ranks_found(make_space: MakeSpace) -> None:
    randomized = Intervention(name="r", method="randomized", options={"power_iterations": [0, 2], "seed": 7})
    spaces = (
        make_space(tau=("fc_in",), layer=(1,), rho=(1.0,)),
        make_space(tau=("fc_in",), layer=(0, 1), rho=(1.0,), intervention=randomized),
    )
    asked = seen(*spaces).ask().candidates
    found = [(c.intervention, c.layer, dict(c.edits[0].options).get("power_iterations")) for c in asked]
    assert sorted(found, key=str) == [("laser", 1, None), ("r", 0, 0), ("r", 0, 2), ("r", 1, 0), ("r", 1, 2)]
    assert all(rank_of(c.rho, *SHAPES["fc_in"]) == RANKS[f"fc_in[{c.layer}]"] for c in asked)


def test_many_places_are_told_in_short(make_space: MakeSpace) -> None:
    search = seen(make_space(tau=("fc_in",), layer=range(15), rho=(1.0,)), look=lambda matrix: planted(matrix, 4))
    [edge, other] = search.notes()
    assert edge.startswith("rank above the noise, by edge: fc_in[0] 4, fc_in[1] 4, ")
    assert edge.endswith("fc_in[11] 4, and 3 places more")
    assert other.startswith("rank above the noise, by Gavish-Donoho: fc_in[0] 4, ")


# Whole sweeps


def test_no_example_is_looked_at_before_the_candidates_are_chosen(run: Run, make_job: MakeJob) -> None:
    def look(probe: Probe) -> ProbeResult:
        return ProbeResult(probe=probe, status="done", spectra=tuple(planted(matrix) for matrix in probe.matrices))

    job = make_job(tau=("fc_in", "fc_out"), layer=(0, 1), rho=(1.0,), search=NoiseEdgeSpec())
    ran = run(job, look=look)
    [[probe], trials, test] = ran.devices.asked
    assert isinstance(probe, Probe)
    assert probe.evaluation is None
    assert {str(matrix) for matrix in probe.matrices} == set(RANKS)
    ranks = {str(edit.matrix): rank_of(edit.rho, *SHAPES[edit.matrix.tau]) for trial in trials for edit in trial.edits}
    assert ranks == RANKS
    assert {trial.evaluation.split for trial in trials} == {"val"}
    assert len(test) == 2


def test_two_data_sets_share_the_spectra_of_a_model(run: Run, make_job: MakeJob) -> None:
    def look(probe: Probe) -> ProbeResult:
        return ProbeResult(probe=probe, status="done", spectra=tuple(planted(matrix) for matrix in probe.matrices))

    for objective, winners in (("accuracy", 2), ("mean_accuracy", 1)):
        jobs = [
            make_job(dataset=name, layer=(0, 1), rho=(1.0,), search=NoiseEdgeSpec(), objective=objective, seed=winners)
            for name in ("colours", "shapes")
        ]
        ran = run(*jobs, look=look, resume="never")
        assert len(ran.devices.asked[0]) == 1
        assert len(ran.outcome.confirmed) == winners


# The fraction of a rank


@given(rows=st.integers(1, 20_000), columns=st.integers(1, 20_000), data=st.data())
def test_the_fraction_of_a_rank_keeps_that_rank(rows: int, columns: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, min(rows, columns)))
    rho = rho_of(rank, rows, columns)
    assert 0 <= rho <= 1
    assert rank_of(rho, rows, columns) == int(min(rows, columns) * rho) == rank
    assert rho == pytest.approx(rank / min(rows, columns), rel=1e-15)


@pytest.mark.parametrize("full", [*range(1, 65), 128, 768, 1000, 2048, 4096, 5120, 11008, 14336, 16384, 50400])
def test_every_rank_has_its_fraction(full: int) -> None:
    assert all(int(full * rho_of(rank, full, full + 1)) == rank for rank in range(full + 1))
