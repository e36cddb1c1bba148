"""From jobs to what is left to run, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.probe import Probe, ProbeResult
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.plan import compare, first_trials, plan_sweep, subtract_stored, work_units
from laser_sweep.sweep.search.space import grid
from laser_sweep.trial import TAUS, Edit, Evaluation, ExampleScores, Matrix, ModelId, Trial, TrialResult

MakeJob = Callable[..., Job]
Answered = Callable[..., TrialResult]


class StoreOf:
    """A store that holds given results and is never written to."""

    def __init__(self, results: Iterable[TrialResult] = ()) -> None:
        self._results = {result.trial.key: result for result in results}

    def find(self, trials: Iterable[Trial]) -> dict[str, TrialResult]:
        return {trial.key: self._results[trial.key] for trial in trials if trial.key in self._results}

    def scores(self, key: str) -> ExampleScores | None:
        raise AssertionError("planning needs no predictions")

    def find_probe(self, probe: Probe) -> ProbeResult | None:
        raise AssertionError("planning needs no spectra")

    def write_probe(self, result: ProbeResult) -> None:
        raise AssertionError("planning writes nothing")

    def write(self, result: TrialResult, sweep: str, config_json: str) -> None:
        raise AssertionError("planning writes nothing")


# Comparisons


def test_jobs_on_the_same_model_and_examples_compete(make_job: MakeJob) -> None:
    first, second = make_job(rho=(0.1, 0.2), sweep="first"), make_job(rho=(0.2, 0.3), sweep="second")
    [comparison] = compare([first, second])
    asked = [(candidate.layer, candidate.rho) for candidate in grid(comparison.spaces)]
    assert asked == [(at, r) for at in range(3) for r in (0.1, 0.2)] + [(at, 0.3) for at in range(3)]


def test_a_trial_belongs_to_the_job_that_asked_first(make_job: MakeJob) -> None:
    first, second = make_job(rho=(0.1, 0.2), sweep="first"), make_job(rho=(0.2, 0.3), sweep="second")
    [comparison] = compare([first, second])
    owners = {edit.rho: question.sweep for (_, [edit]), question in comparison.owners.items()}
    assert owners == {0.1: "first", 0.2: "first", 0.3: "second"}


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"revision": "other weights"}, {"dataset": "shapes"}, {"limit": 5}, {"test_limit": 5}],
)
def test_other_weights_or_examples_do_not_compete(make_job: MakeJob, change: dict[str, object]) -> None:
    assert len(compare([make_job(), make_job(**change), make_job()])) == 2


def test_a_limit_above_the_size_of_the_split_changes_nothing(make_job: MakeJob) -> None:
    assert len(compare([make_job(), make_job(limit=10, test_limit=1000)])) == 1


def test_a_comparison_measures_the_untouched_model_first_and_once(make_job: MakeJob) -> None:
    wanted = first_trials(compare([make_job(), make_job(rho=(0.2,))]))
    assert [trial.untouched for trial in wanted] == [True] + [False] * 6
    assert {trial.evaluation.split for trial in wanted} == {"val"}


def test_the_same_edits_on_test_are_drawn_with_the_limit_of_test(make_job: MakeJob) -> None:
    job = make_job(limit=5, test_limit=7, seed=3)
    trial, there = job.trials("val")[0], job.trials("test")[0]
    assert there.edits == trial.edits
    assert (trial.evaluation.limit, trial.evaluation.seed) == (5, 3)
    assert (there.evaluation.split, there.evaluation.limit, there.evaluation.seed) == ("test", 7, 3)


def test_a_search_looks_at_val_alone_unless_asked_for_all(make_job: MakeJob) -> None:
    on_val = first_trials(compare([make_job()]))
    on_both = first_trials(compare([make_job(split="all")]))
    assert {trial.evaluation.split for trial in on_val} == {"val"}
    assert len(on_both) == 2 * len(on_val)
    assert {trial.key for trial in on_val} < {trial.key for trial in on_both}


# What is stored already


@pytest.fixture
def half_done(make_job: MakeJob, answered: Answered, tmp_path: Path) -> tuple[list[Trial], ParquetStore]:
    """Four trials: one done, one failed, two never run."""
    trials = first_trials(compare([make_job()]))
    store = ParquetStore(tmp_path)
    store.write(answered(trials[0], [True, False]), "sweep", "{}")
    store.write(TrialResult(trial=trials[1], status="failed", error="it broke"), "sweep", "{}")
    return trials, store


@pytest.mark.parametrize(
    ("resume", "reused", "pending"),
    [("auto", [0, 1], [2, 3]), ("errored", [0], [1, 2, 3]), ("never", [], [0, 1, 2, 3])],
)
def test_resume_says_which_stored_trials_run_again(
    half_done: tuple[list[Trial], ParquetStore], resume: str, reused: list[int], pending: list[int]
) -> None:
    trials, store = half_done
    plan = subtract_stored(trials, store, resume)
    assert set(plan.reused) == {trials[i].key for i in reused}
    assert list(plan.pending) == [trials[i] for i in pending]


def test_a_reused_result_is_the_stored_one(half_done: tuple[list[Trial], ParquetStore]) -> None:
    trials, store = half_done
    plan = subtract_stored(trials, store, "auto")
    assert plan.reused[trials[0].key].measured().accuracy == 0.5
    assert plan.reused[trials[1].key].error == "it broke"


def test_a_trial_that_is_asked_for_twice_runs_once(make_job: MakeJob) -> None:
    trials = first_trials(compare([make_job()]))
    plan = subtract_stored([*trials, *trials], StoreOf(), "auto")
    assert list(plan.pending) == trials


def test_three_more_rhos_run_only_those_three(make_job: MakeJob, answered: Answered) -> None:
    before = first_trials(compare([make_job(layer=(1,), rho=(0.1, 0.2))]))
    store = StoreOf(answered(trial, [True]) for trial in before)
    plan = plan_sweep([make_job(layer=(1,), rho=(0.1, 0.2, 0.3, 0.4, 0.5))], store, "auto")
    assert [trial.rho for trial in plan.pending] == [0.3, 0.4, 0.5]
    assert len(plan.reused) == 3


# Work units


def test_the_untouched_models_come_first_of_all(make_job: MakeJob) -> None:
    jobs = [make_job(model="b"), make_job(model="a"), make_job(model="a", dataset="shapes")]
    units = work_units(first_trials(compare(jobs)))
    untouched = [all(trial.untouched for trial in unit.trials) for unit in units]
    assert untouched == [True] * 3 + [False] * 9
    assert [len(unit.trials) for unit in units[:3]] == [1, 1, 1]


def test_a_unit_is_one_layer_of_one_model_on_one_data_set(make_job: MakeJob) -> None:
    jobs = [make_job(tau=TAUS, rho=(0.1, 0.2), model=model, dataset=data) for model in "ab" for data in "cd"]
    units = work_units(first_trials(compare(jobs)))
    edited = [unit for unit in units if not unit.trials[0].untouched]
    assert len(edited) == 4 * 3
    for unit in edited:
        assert len({(t.model, t.evaluation, t.edits[0].matrix.layer) for t in unit.trials}) == 1
        assert len(unit.trials) == len(TAUS) * 2


def test_a_unit_is_ordered_by_matrix_so_that_a_factorisation_serves_all_rhos(make_job: MakeJob) -> None:
    trials = first_trials(compare([make_job(tau=("fc_out", "fc_in"), layer=(1,), rho=(0.3, 0.1, 0.2))]))
    [_, unit] = work_units(sorted(trials, key=lambda trial: trial.rho or 0))
    taus = [trial.edits[0].matrix.tau for trial in unit.trials]
    assert taus == sorted(taus)


def test_neighbouring_layers_follow_each_other(make_job: MakeJob) -> None:
    units = work_units(first_trials(compare([make_job(layer=(11, 2, 0, 10, 1))])))
    assert [unit.trials[0].layer for unit in units[1:]] == [0, 1, 2, 10, 11]


def test_an_edit_of_several_layers_goes_with_its_lowest() -> None:
    def trial(*layers: int) -> Trial:
        return Trial(
            model=ModelId(name="m", repo="m", revision="1", dtype="float32"),
            edits=tuple(Edit(matrix=Matrix("fc_in", at), rho=0.1) for at in layers),
            evaluation=Evaluation(dataset="d", revision="1", split="val"),
        )

    units = work_units([trial(5, 2, 7), trial(2), trial(5)])
    assert [set(unit.trials) for unit in units] == [{trial(5, 2, 7), trial(2)}, {trial(5)}]


trials = st.builds(
    lambda model, dataset, split, layers, rho: Trial(
        model=ModelId(name=model, repo=model, revision="1", dtype="float32"),
        edits=tuple(Edit(matrix=Matrix("fc_in", at), rho=rho) for at in layers),
        evaluation=Evaluation(dataset=dataset, revision=dataset, split=split),
    ),
    st.sampled_from("ab"),
    st.sampled_from("cd"),
    st.sampled_from(["val", "test"]),
    st.lists(st.integers(0, 3), max_size=2, unique=True),
    st.sampled_from([0.1, 0.2]),
)


def test_a_unit_costs_tokens_times_blocks_from_its_lowest_edit_up(make_job: MakeJob) -> None:
    job = make_job(layer=(0, 2))  # of 3 layers, 1,000 tokens on val and 4,000 on test
    costs = [(unit.trial_cost, unit.entry_cost) for unit in work_units(first_trials(compare([job])), [job])]
    assert costs == [(3_000, 0), (3_000, 0), (1_000, 2_000)]
    (on_test,) = work_units([job.trials("test")[-1]], [job])
    assert (on_test.trial_cost, on_test.entry_cost) == (4_000, 8_000)


@given(asked=st.lists(trials, max_size=30, unique_by=lambda trial: trial.key))
def test_every_trial_stands_in_exactly_one_unit(asked: list[Trial]) -> None:
    units = work_units(asked)
    assert sorted(t.key for unit in units for t in unit.trials) == sorted(t.key for t in asked)
    assert all(unit.trials for unit in units)
    untouched = [unit.trials[0].untouched for unit in units]
    assert untouched == sorted(untouched, reverse=True)


def test_ten_thousand_trials_are_planned_in_seconds(make_job: MakeJob, answered: Answered) -> None:
    job = make_job(tau=TAUS, layer=range(32), rho=[i / 100 for i in range(1, 46)])
    stored = [answered(trial, [True]) for trial in job.trials("val")[::2]]
    started = time.process_time()
    plan = plan_sweep([job], StoreOf(stored), "auto")
    units = work_units(plan.pending)
    assert time.process_time() - started < 5
    assert len(plan.reused) + len(plan.pending) == 7 * 32 * 45 + 1
    assert len(plan.reused) == 5040
    assert len(units) == 33


def test_labels_do_not_make_another_trial(make_job: MakeJob, answered: Answered) -> None:
    """A result is reused however the request named its edits."""
    trial = make_job().trials("val")[0]
    renamed = replace(trial, intervention="mine", tau="mlp", layer=None, rho=None)
    assert not subtract_stored([renamed], StoreOf([answered(trial, [True])]), "auto").pending
