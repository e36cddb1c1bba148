"""Sweeps whose score is the return of episodes, by a model that plays as a test says."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console
from scipy.stats import sem, ttest_rel

from laser_sweep.analysis.multiplicity import adjusted_p_values
from laser_sweep.engine.tasks.environment import EnvironmentSpec
from laser_sweep.engine.tasks.rollouts import Conditions, Episode, Rollouts
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.plan import plan_sweep
from laser_sweep.sweep.progress import LineProgress
from laser_sweep.sweep.search.spec import GreedySpec, HalvingSpec
from laser_sweep.sweep.summary import print_outcome, print_plan
from laser_sweep.trial import Trial, TrialResult

from ..measured import played

Run = Callable[..., Any]
GAINS = (1.0, 9.0, 4.0)  # by layer
CONDITIONS = Conditions(
    env=EnvironmentSpec(id="Acrobot-v1"), target_return=-70.0, return_scale=100.0, context=10, state_mean=(0.0,) * 6,
    state_std=(1.0,) * 6,
)  # fmt: skip


@pytest.fixture
def job(make_job: Callable[..., Job]) -> Callable[..., Job]:
    def make(**changes: Any) -> Job:
        """50 episodes of val and 200 of test, which a model that does not exist plays."""
        made = make_job(**{"objective": "return", **changes})
        episodes = tuple(Episode(seed=seed) for seed in range(250))
        return replace(made, task=Rollouts("rollouts", episodes, conditions=CONDITIONS, max_steps=500))

    return make


def returns(trial: Trial) -> npt.NDArray[np.float64]:
    """Whatever the split, each episode has its own luck, and each edit its own as well."""
    asked = trial.evaluation
    count = asked.limit or {"val": 50, "test": 200}[asked.split]
    random = np.random.default_rng(1 if asked.split == "val" else 2)
    base = random.normal(-90, 20, 200)[:count]
    if trial.untouched:
        return base
    layer = trial.edits[-1].matrix.layer
    luck = np.random.default_rng([layer, count]).normal(0, 3, count)
    return base + sum(GAINS[edit.matrix.layer] for edit in trial.edits) + luck


def measure(trial: Trial) -> TrialResult:
    got = returns(trial)
    layer = 1 if trial.untouched else 3 - trial.edits[-1].matrix.layer
    return replace(played(trial, got, errors=np.full(len(got), 0.01 * layer), solved_at=-100), gain=None)


@pytest.fixture
def ran(run: Run, job: Callable[..., Job]) -> Callable[..., Any]:
    return lambda **changes: run(job(**changes), measure=measure)


def summary(outcome: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    print_outcome(console, outcome, "outputs/store")
    return console.file.getvalue()


def test_the_summary_is_in_terms_of_return(ran: Callable[..., Any], job: Callable[..., Job]) -> None:
    text = summary(ran().outcome)
    assert "tiny on rollouts, val (50 episodes)" in text
    for word in ("accuracy", "log-loss", "points", "nan", "examples"):
        assert word not in text
    rows = [line.split() for line in text.splitlines() if re.match(r"\s+(untouched|laser)\s", line)]
    base = returns(job().untouched("val"))
    assert rows[0] == ["untouched", f"{base.mean():.2f}", f"{sem(base):.2f}", "0.0100"]
    edited = {trial.layer: returns(trial) for trial in job().trials("val")}
    corrected = adjusted_p_values([ttest_rel(edited[layer], base).pvalue for layer in (1, 2, 0)])
    for row, layer, p_value in zip(rows[1:], (1, 2, 0), corrected, strict=True):
        assert row[:4] == ["laser", "fc_in", str(layer), "0.1"]
        assert row[4:6] == [f"{edited[layer].mean():.2f}", f"{sem(edited[layer]):.2f}"]
        assert row[7] == f"{(edited[layer] - base).mean():+.2f}"
        assert float(row[8]) == pytest.approx(p_value, rel=0.1)


def test_the_winner_is_confirmed_on_the_episodes_of_test(ran: Callable[..., Any], job: Callable[..., Job]) -> None:
    text = summary(ran().outcome)
    before = returns(job().untouched("test"))
    after = returns(job().trials("test")[1])
    interval = ttest_rel(after, before).confidence_interval(0.95)
    assert f"on test (200 episodes, looked at once): untouched return {before.mean():.2f} ± {sem(before):.2f}" in text
    assert f"winner laser fc_in[1] rho=0.1: return {after.mean():.2f} ± {sem(after):.2f}, action error 0.0200" in text
    assert f"gain {(after - before).mean():+.2f} ± {sem(after - before):.2f} (95 %: {interval.low:+.2f} to" in text
    assert f"success {100 * (after >= -100).mean():.1f} %" in text


def test_gains_are_stored_with_the_p_values_of_a_paired_t_test(
    ran: Callable[..., Any], job: Callable[..., Job]
) -> None:
    rig = ran()
    base = returns(job().untouched("val"))
    for trial in job().trials("val"):
        [stored] = rig.store.find([trial]).values()
        assert stored.gain == pytest.approx((returns(trial) - base).mean())
        assert stored.gain_p_value == pytest.approx(ttest_rel(returns(trial), base).pvalue, rel=1e-6)


def test_action_error_decides_where_it_is_the_objective(ran: Callable[..., Any]) -> None:
    """The error falls with the layer, the return is best in the middle."""
    [confirmed] = ran(objective="action_error").outcome.confirmed[0]
    assert confirmed.winner.trial.layer == 2
    [confirmed] = ran(objective="return").outcome.confirmed[0]
    assert confirmed.winner.trial.layer == 1


def test_a_job_returns_what_decides(run: Run, job: Callable[..., Job]) -> None:
    asked = job()
    assert run(asked, measure=measure).outcome.objective(asked) == pytest.approx(returns(asked.trials("val")[1]).mean())
    asked = job(objective="action_error")
    assert run(asked, measure=measure).outcome.objective(asked) == pytest.approx(0.01)


def test_halving_goes_by_action_error_and_ends_with_the_return(ran: Callable[..., Any]) -> None:
    rig = ran(search=HalvingSpec(min_examples=10, reduction=2))
    assert "successive halving: 3 on 10 examples, 2 on 20 examples, 1 on 40 examples" in summary(rig.outcome)
    [confirmed] = rig.outcome.confirmed[0]
    assert confirmed.winner.trial.layer == 2


def test_greedy_composition_keeps_what_raises_the_return(ran: Callable[..., Any]) -> None:
    rig = ran(search=GreedySpec())
    [confirmed] = rig.outcome.confirmed[0]
    assert len(confirmed.winner.trial.edits) == 3


def test_a_dry_run_says_how_many_episodes_and_tokens_at_most(job: Callable[..., Job], store: ParquetStore) -> None:
    console = Console(file=io.StringIO(), width=120)
    jobs = [job()]
    print_plan(console, jobs, plan_sweep(jobs, store, "auto"), "outputs/store")
    text = console.file.getvalue()
    assert re.search(r"tiny\s+rollouts\s+3\s+50\s+200", text)


def test_progress_tells_the_best_return(job: Callable[..., Job]) -> None:
    console = Console(file=io.StringIO(), width=120)
    progress = LineProgress(console)
    progress.start(1, 0)
    progress.result(measure(job().trials("val")[1]))
    assert f"best return {returns(job().trials('val')[1]).mean():.2f} fc_in[1]" in console.file.getvalue()
