"""The gradient's choice of places, against scores added up by hand, and against the whole grid of a real model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.errors import RequestError
from laser_sweep.probe import Probe, ProbeResult, Spectrum
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.measure import Measurer
from laser_sweep.sweep.outcome import Outcome
from laser_sweep.sweep.progress import make_progress
from laser_sweep.sweep.protocols import AskSpectra, AskTrials, Findings
from laser_sweep.sweep.run import Sweep
from laser_sweep.sweep.search.registry import make_search
from laser_sweep.sweep.search.space import Place, Space
from laser_sweep.sweep.search.spec import GradientSpec, GridSpec
from laser_sweep.sweep.tracking.tracker import NullTracker
from laser_sweep.trial import Matrix

MakeSpace = Callable[..., Space]
MakeSpectrum = Callable[..., Spectrum]
MakeJob = Callable[..., Job]
Run = Callable[..., Any]
Curves = Mapping[Matrix, tuple[Sequence[float], Sequence[float]]]

RHOS = (0.9, 0.5, 0.2)


def searched(spec: GradientSpec, spaces: Sequence[Space], *spectra: Mapping[Matrix, Spectrum]) -> Any:
    """The search once it has seen the spectra, of one data set or several."""
    search = make_search(spec, spaces, "accuracy", 100, 0)
    assert isinstance(search.ask(), AskSpectra)
    return search.tell(Findings(spectra=spectra))


def chosen(search: Any) -> set[str]:
    """The places whose whole grid is asked for, and nothing else is."""
    ask = search.ask()
    assert isinstance(ask, AskTrials)
    assert ask.limit is None
    assert search.tell(Findings()).ask() is None
    return {f"{c.tau}[{c.layer}]" for c in ask.candidates}


def by_hand(curves: Curves, matrices: Sequence[Matrix], rhos: Sequence[float]) -> float:
    """The best ρ's sum over all removed directions of all matrices, of σ_i g_i."""
    totals = []
    for rho in rhos:
        total = 0.0
        for matrix in matrices:
            sigma, slope = curves[matrix]
            for i in range(int(len(sigma) * rho), len(sigma)):
                total += sigma[i] * slope[i]
        totals.append(total)
    return max(totals)


@pytest.fixture
def curves() -> Curves:
    """Of six matrices of ten to fifteen directions."""
    random = np.random.default_rng(0)
    sizes = {Matrix(tau, at): 10 + at + 3 * (tau == "fc_out") for tau in ("fc_in", "fc_out") for at in range(3)}
    return {
        matrix: (sorted(random.exponential(size=n).tolist(), reverse=True), random.normal(size=n).tolist())
        for matrix, n in sizes.items()
    }


@pytest.fixture
def as_spectra(make_spectrum: MakeSpectrum) -> Callable[[Curves], dict[Matrix, Spectrum]]:
    return lambda curves: {matrix: make_spectrum(matrix, *pair, longer=7) for matrix, pair in curves.items()}


@pytest.mark.parametrize("top", [1, 2, 4, 6, 9])
def test_the_places_of_the_highest_predicted_gain_are_searched(
    top: int, make_space: MakeSpace, curves: Curves, as_spectra: Any
) -> None:
    space = make_space(rho=RHOS)
    scores = {f"{m.tau}[{m.layer}]": by_hand(curves, [m], RHOS) for m in curves}
    best = sorted(scores, key=lambda name: -scores[name])
    search = searched(GradientSpec(top_matrices=top), [space], as_spectra(curves))
    assert chosen(search) == set(best[:top])
    assert len(search.ask().candidates) == 3 * min(top, 6)
    assert [str(one.place) for one in search.scored] == best
    assert [one.score for one in search.scored] == pytest.approx([scores[name] for name in best])


def test_the_published_score_is_what_the_last_20_directions_promise(
    make_space: MakeSpace, make_spectrum: MakeSpectrum
) -> None:
    """Of 25 directions the five strongest do not count, nor do those along which the loss rises."""
    random = np.random.default_rng(1)
    slopes = {Matrix(tau, at): random.normal(size=25) for tau in ("fc_in", "fc_out") for at in range(3)}
    slopes[Matrix("fc_in", 0)][:5] = 100.0
    spectra = {m: make_spectrum(m, np.linspace(2, 1, 25), slope.tolist()) for m, slope in slopes.items()}
    scores = {f"{m.tau}[{m.layer}]": sum(g for g in slope[5:].tolist() if g > 0) for m, slope in slopes.items()}
    best = sorted(scores, key=lambda name: -scores[name])
    search = searched(GradientSpec(top_matrices=2, score="last20"), [make_space(rho=RHOS)], spectra)
    assert chosen(search) == set(best[:2])
    assert [one.score for one in search.scored] == pytest.approx([scores[name] for name in best])


def test_matrices_that_are_edited_together_add_up_at_the_same_rho(
    make_space: MakeSpace, make_spectrum: MakeSpectrum
) -> None:
    """Of mlp[0] one matrix promises 3 at ρ = 0.5 and the other 3 at ρ = 0.9, but together never more than 1; mlp[1] has
    2 at ρ = 0.5."""

    def gaining(matrix: Matrix, at_half: float, at_nine: float) -> Spectrum:
        return make_spectrum(matrix, [1.0] * 10, [0.0] * 5 + [at_half - at_nine, 0, 0, 0] + [at_nine])

    spectra = {
        Matrix("fc_in", 0): gaining(Matrix("fc_in", 0), 3.0, -2.0),
        Matrix("fc_out", 0): gaining(Matrix("fc_out", 0), -2.0, 3.0),
        Matrix("fc_in", 1): gaining(Matrix("fc_in", 1), 1.0, 0.0),
        Matrix("fc_out", 1): gaining(Matrix("fc_out", 1), 1.0, 0.0),
    }
    places = [Place("mlp", at, (Matrix("fc_in", at), Matrix("fc_out", at))) for at in range(2)]
    search = searched(GradientSpec(top_matrices=1), [make_space(places=places, rho=(0.9, 0.5))], spectra)
    assert chosen(search) == {"mlp[1]"}
    assert [one.score for one in search.scored] == pytest.approx([2.0, 1.0])
    assert all({edit.matrix.tau for edit in c.edits} == {"fc_in", "fc_out"} for c in search.ask().candidates)


def test_the_published_scores_of_matrices_that_are_edited_together_add_up(
    make_space: MakeSpace, make_spectrum: MakeSpectrum
) -> None:
    slopes = {("fc_in", 0): 2.0, ("fc_out", 0): -9.0, ("fc_in", 1): 1.0, ("fc_out", 1): 1.5}
    spectra = {Matrix(*at): make_spectrum(Matrix(*at), [1.0] * 4, [g] * 4) for at, g in slopes.items()}
    places = [Place("mlp", at, (Matrix("fc_in", at), Matrix("fc_out", at))) for at in range(2)]
    search = searched(GradientSpec(top_matrices=1, score="last20"), [make_space(places=places)], spectra)
    assert [(str(one.place), one.score) for one in search.scored] == [("mlp[1]", 10.0), ("mlp[0]", 8.0)]


@pytest.mark.parametrize("score", ["predicted_gain", "last20"])
def test_of_several_data_sets_the_mean_counts(score: Any, make_space: MakeSpace, make_spectrum: MakeSpectrum) -> None:
    """A place that is second on both is first."""
    slopes = ({0: 5.0, 1: 4.0, 2: 1.0}, {0: 1.0, 1: 4.0, 2: 6.0})
    sets = [
        {Matrix("fc_in", at): make_spectrum(Matrix("fc_in", at), [1.0, 1.0], [0, g]) for at, g in one.items()}
        for one in slopes
    ]
    space = make_space(tau=("fc_in",), rho=(0.5,))
    search = searched(GradientSpec(top_matrices=1, score=score), [space], *sets)
    assert chosen(search) == {"fc_in[1]"}
    assert [(one.place.layer, one.score) for one in search.scored] == [(1, 4.0), (2, 3.5), (0, 3.0)]


def test_a_place_is_scored_at_the_fractions_that_it_can_have(
    make_space: MakeSpace, make_spectrum: MakeSpectrum
) -> None:
    """One request asks for fc_in at ρ = 0.9, another for fc_out at ρ = 0.5, where fc_in would be the better one."""
    matrices = Matrix("fc_in", 0), Matrix("fc_out", 0)
    slopes = [0, 0, 0, 0, 0, 9, 0, 0, 0, 1], [0, 0, 0, 0, 0, 2, 0, 0, 0, 0]
    spectra = {m: make_spectrum(m, [1.0] * 10, slope) for m, slope in zip(matrices, slopes, strict=True)}
    spaces = [make_space(tau=(m.tau,), layer=(0,), rho=(r,)) for m, r in zip(matrices, (0.9, 0.5), strict=True)]
    search = searched(GradientSpec(top_matrices=1), spaces, spectra)
    assert [(str(one.place), one.score) for one in search.scored] == [("fc_out[0]", 2.0), ("fc_in[0]", 1.0)]


@given(slopes=st.lists(st.floats(-3, 3), min_size=12, max_size=12), rhos=st.sets(st.floats(0, 0.99), min_size=1))
def test_scores_are_those_added_up_by_hand(
    slopes: list[float], rhos: set[float], make_space: MakeSpace, make_spectrum: MakeSpectrum
) -> None:
    sigma = [float(12 - i) for i in range(12)]
    matrix = Matrix("fc_in", 0)
    spectra = {matrix: make_spectrum(matrix, sigma, slopes, longer=3)}
    space = make_space(tau=("fc_in",), layer=(0,), rho=sorted(rhos))
    [only] = searched(GradientSpec(), [space], spectra).scored
    assert only.score == pytest.approx(by_hand({matrix: (sigma, slopes)}, [matrix], sorted(rhos)), abs=1e-9)


def test_scores_are_told_with_their_errors_and_what_was_left_out(
    make_space: MakeSpace, make_spectrum: MakeSpectrum
) -> None:
    spectra = {
        Matrix("fc_in", at): make_spectrum(Matrix("fc_in", at), [1.0, 1.0], [0, gain])
        for at, gain in enumerate((0.5, 4.0, -2.0))
    }
    space = make_space(tau=("fc_in",), rho=(0.5,))
    search = searched(GradientSpec(top_matrices=2, gradient_samples=77), [space], spectra)
    assert search.notes() == [
        "gradients on 77 examples scored 3 places (predicted gain, nats); "
        "searched: fc_in[1] 4 ± 0.4, fc_in[0] 0.5 ± 0.05",
        "next, not searched: fc_in[2] -2 ± 0.2",
    ]
    [only] = searched(GradientSpec(top_matrices=3), [space], spectra).notes()
    assert "fc_in[2] -2" in only


# Whole sweeps


def looks(curves: Curves, make_spectrum: MakeSpectrum) -> Callable[[Probe], ProbeResult]:
    """Devices that know the spectra."""
    return lambda probe: ProbeResult(
        probe=probe, status="done", spectra=tuple(make_spectrum(m, *curves[m]) for m in probe.matrices)
    )


def blind(probe: Probe) -> ProbeResult:
    return ProbeResult(probe=probe, status="failed", error="no memory")


SPEC = GradientSpec(gradient_samples=5, top_matrices=1)


@pytest.mark.parametrize(
    ("samples", "limit", "asked"), [(5, None, 5), (5, 3, 5), (10, 3, None), ("all", None, None), ("all", 3, None)]
)
def test_the_gradient_looks_at_as_many_examples_of_val_as_said_whatever_the_limit(
    samples: Any,
    limit: int | None,
    asked: int | None,
    run: Run,
    make_job: MakeJob,
    curves: Curves,
    make_spectrum: MakeSpectrum,
) -> None:
    job = make_job(limit=limit, seed=4, search=GradientSpec(gradient_samples=samples, top_matrices=1))
    ran = run(job, look=looks(curves, make_spectrum))
    [[probe], *_] = ran.devices.asked
    assert isinstance(probe, Probe)
    assert set(probe.matrices) == {Matrix("fc_in", at) for at in range(3)}
    assert (probe.evaluation.split, probe.evaluation.limit) == ("val", asked)
    assert probe.evaluation.seed == (None if asked is None else 4)


def test_more_gradient_samples_than_there_are_are_refused_before_anything_runs(
    rig: Callable[..., Any], make_job: MakeJob
) -> None:
    parts = rig()
    jobs = [make_job(dataset="shapes"), make_job(search=GradientSpec(gradient_samples=11))]
    with pytest.raises(RequestError) as caught:
        parts.run(*jobs)
    assert str(caught.value) == (
        "search.gradient_samples=11 is more than the 10 examples of val of colours; give 10 or less, or all"
    )
    assert parts.devices.asked == []


def test_a_failed_probe_ends_that_search_and_no_other(
    rig: Callable[..., Any], make_job: MakeJob, store: ParquetStore
) -> None:
    jobs = [make_job(search=SPEC), make_job(dataset="shapes"), make_job(dataset="sizes", search=SPEC)]
    parts = rig(look=blind).run(*jobs)
    failed = parts.outcome.failed
    assert [(type(one), one.error) for one in failed] == [(ProbeResult, "no memory")] * 2
    assert sorted(parts.outcome.confirmed) == [1]
    assert parts.outcome.confirmed[1][0].winner.trial.layer == 2
    assert [parts.outcome.objective(job) for job in jobs] == [None, 0.7, None]
    assert sum("no memory" in note for note in parts.progress.notes) == 2
    assert len(store.find([*jobs[1].trials("val"), jobs[1].untouched("val")])) == 4


def test_after_a_failed_probe_the_same_sweep_runs_only_what_is_missing(
    rig: Callable[..., Any], make_job: MakeJob, curves: Curves, make_spectrum: MakeSpectrum
) -> None:
    jobs = [make_job(search=SPEC), make_job(dataset="shapes")]
    rig(look=blind).run(*jobs)
    again = rig(look=looks(curves, make_spectrum)).run(*jobs)
    assert not again.outcome.failed
    assert sorted(again.outcome.confirmed) == [0, 1]
    asked = [work for batch in again.devices.asked for work in batch]
    assert {work.evaluation.dataset for work in asked} == {"colours"}
    third = rig(look=blind).run(*jobs)
    assert third.devices.asked == []
    assert third.outcome.confirmed[0][0].winner.trial == again.outcome.confirmed[0][0].winner.trial


def test_there_is_a_probe_for_each_data_set_that_shares_the_winner(
    run: Run, make_job: MakeJob, make_spectrum: MakeSpectrum
) -> None:
    """Layer 1 is second on both data sets."""
    gains = {"colours": (5.0, 4.0, 1.0), "shapes": (1.0, 4.0, 6.0)}

    def look(probe: Probe) -> ProbeResult:
        promised = gains[probe.evaluation.dataset]
        found = tuple(make_spectrum(m, [1.0, 1.0], [0, promised[m.layer]]) for m in probe.matrices)
        return ProbeResult(probe=probe, status="done", spectra=found)

    jobs = [make_job(dataset=name, search=SPEC, objective="mean_accuracy") for name in gains]
    ran = run(*jobs, look=look)
    [probes, trials, _] = ran.devices.asked
    assert [probe.evaluation.dataset for probe in probes] == ["colours", "shapes"]
    assert {trial.layer for trial in trials} == {None, 1}


# The embedded model


@pytest.fixture(scope="module")
def swept(
    demo_job: Callable[..., Job], workload: Callable[[Job], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Outcome]:
    """A real sweep of the embedded model; all of them share a store."""
    from laser_sweep.engine.editing.spec import CacheSpec
    from laser_sweep.sweep.executors.in_process import InProcessExecutor

    store = ParquetStore(tmp_path_factory.mktemp("demo"))

    def run(**asked: Any) -> Outcome:
        rhos = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.01, 0.005)
        job = demo_job(rho=rhos, limit=100, test_limit=None, **asked)
        executor = InProcessExecutor([workload(job)], CacheSpec(factors_gb=0))
        parts: dict[str, Any] = {"tracker": NullTracker(), "progress": make_progress(), "resume": "auto"}
        return Sweep(Measurer(executor=executor, store=store, **parts)).run([job])

    return run


@pytest.fixture(scope="module")
def best_of_all(swept: Callable[..., Outcome]) -> Any:
    """The winner of all 108 candidates on all of test, beside the untouched model."""
    outcome = swept(search=GridSpec())
    assert len(outcome.comparisons[0].candidates) == 108
    [confirmed] = outcome.confirmed[0]
    return confirmed


def test_two_places_of_the_embedded_model_are_as_good_as_the_whole_grid(
    swept: Callable[..., Outcome], best_of_all: Any
) -> None:
    found = swept(search=GradientSpec(gradient_samples=100, top_matrices=2))
    [confirmed] = found.confirmed[0]
    assert not found.failed
    assert len(found.comparisons[0].candidates) == 2 * 9
    assert confirmed.winner.measured().num_examples == 1920
    assert confirmed.winner.measured().accuracy >= best_of_all.winner.measured().accuracy - 0.01
    assert best_of_all.winner.measured().accuracy > best_of_all.untouched.measured().accuracy + 0.5


def test_the_published_score_finds_most_of_what_there_is_in_the_embedded_model(
    swept: Callable[..., Outcome], best_of_all: Any
) -> None:
    found = swept(search=GradientSpec(score="last20", gradient_samples=100, top_matrices=2))
    [confirmed] = found.confirmed[0]
    assert not found.failed
    gains = [one.winner.measured().accuracy - one.untouched.measured().accuracy for one in (confirmed, best_of_all)]
    assert gains[0] > 0.9 * gains[1]
