"""What a person reads at the end of a sweep, or instead of one."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import binomtest

from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.outcome import Outcome
from laser_sweep.sweep.plan import plan_sweep
from laser_sweep.sweep.summary import print_outcome, print_plan
from laser_sweep.trial import Seconds, Trial, TrialResult

Run = Callable[..., Any]
MakeJob = Callable[..., Job]
Answered = Callable[..., TrialResult]


def summary(outcome: Outcome, store_path: str = "outputs/store") -> str:
    console = Console(file=io.StringIO(), width=120)
    print_outcome(console, outcome, store_path)
    return console.file.getvalue()


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row that begins with an intervention or `untouched`."""
    return [line.split() for line in text.splitlines() if re.match(r"\s+(untouched|laser)\s", line)]


def test_the_untouched_model_stands_first_and_the_best_edit_next(run: Run, make_job: MakeJob) -> None:
    text = summary(run(make_job(layer=(0, 1, 2))).outcome)
    assert "tiny on colours, val (10 examples)" in text
    untouched, *edited = table_rows(text)
    assert untouched[:4] == ["untouched", "40.0", "15.5", "1.000"]  # 100 √(0.4 · 0.6 / 10) = 15.5
    assert [row[:5] for row in edited] == [
        ["laser", "fc_in", "2", "0.1", "70.0"],
        ["laser", "fc_in", "1", "0.1", "60.0"],
        ["laser", "fc_in", "0", "0.1", "50.0"],
    ]
    assert [row[7] for row in edited] == ["+30.0", "+20.0", "+10.0"]


def test_p_values_are_those_of_the_exact_test(
    run: Run, make_job: MakeJob, answers: Callable[[Trial], np.ndarray]
) -> None:
    job = make_job(layer=(2,))
    _, edited = table_rows(summary(run(job).outcome))
    winner, untouched = answers(job.trials("val")[0]), answers(job.untouched("val"))
    wins, losses = int((winner & ~untouched).sum()), int((untouched & ~winner).sum())
    assert float(edited[8]) == pytest.approx(binomtest(wins, wins + losses).pvalue, rel=0.05)


def test_the_winner_is_told_with_its_gain_on_test(
    run: Run, make_job: MakeJob, answers: Callable[[Trial], np.ndarray]
) -> None:
    job = make_job()
    text = summary(run(job).outcome)
    difference = answers(job.trials("test")[2]).astype(float) - answers(job.untouched("test"))
    error = 100 * difference.std() / np.sqrt(40)
    assert "on test (40 examples, looked at once): untouched 40.0 ± 7.7 %, log-loss 1.000" in text
    [line] = [line for line in text.splitlines() if line.startswith("winner")]
    assert line.startswith("winner laser fc_in[2] rho=0.1: 70.0 ± 7.2 %, log-loss 1.000, gain +30.0 ±")
    assert f"± {error:.1f} points (95 %: " in line
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    assert float(line.split("p = ")[1]) == pytest.approx(binomtest(wins, wins + losses).pvalue, rel=0.05)


def test_the_majority_class_is_told_where_there_are_classes(run: Run, make_job: MakeJob, answered: Answered) -> None:
    from dataclasses import replace

    def with_classes(trial: Trial) -> TrialResult:
        result = answered(trial, [True, False])
        return replace(result, metrics=replace(result.measured(), majority_accuracy=0.629, balanced_accuracy=0.5))

    assert "majority class 62.9 %" in summary(run(make_job(), measure=with_classes).outcome)


def test_no_edit_is_called_a_winner_where_the_untouched_model_is_best(
    run: Run, make_job: MakeJob, answered: Answered
) -> None:
    def harm(trial: Trial) -> TrialResult:
        return answered(trial, [trial.untouched] * {"val": 10, "test": 40}[trial.evaluation.split])

    text = summary(run(make_job(), measure=harm).outcome)
    assert "no edit is better than the untouched model on val" in text
    assert "winner" not in text


def test_counts_and_paths_come_last(run: Run, make_job: MakeJob, measure: Callable[[Trial], TrialResult]) -> None:
    from dataclasses import replace

    def loaded(trial: Trial) -> TrialResult:
        return replace(measure(trial), seconds=Seconds(load=float(trial.untouched)))

    run(make_job(layer=(0,), confirm=False))
    outcome = run(make_job(), measure=loaded).outcome
    lines = summary(outcome, "some/where").splitlines()
    assert re.fullmatch(r"trials: reused 2, ran 4; \d+\.\d s, 1 model loads?", lines[-3])
    assert lines[-2] == "results: some/where/trials, some/where/predictions"
    assert lines[-1] == "over there"  # where the tracker put them


def test_a_sweep_that_had_nothing_to_do_says_so(run: Run, make_job: MakeJob) -> None:
    run(make_job())
    text = summary(run(make_job()).outcome)
    assert "reused 6, ran 0 (every trial was stored already)" in text
    assert "winner laser fc_in[2] rho=0.1" in text


def test_failures_are_told_with_their_reasons_and_what_to_do(
    run: Run, make_job: MakeJob, measure: Callable[[Trial], TrialResult]
) -> None:
    def fail_layer_1(trial: Trial) -> TrialResult:
        broken = TrialResult(trial=trial, status="failed", error="[bold]no[/bold] memory")
        return broken if trial.layer == 1 else measure(trial)

    text = summary(run(make_job(), measure=fail_layer_1).outcome)
    assert "failed: fc_in[1] rho=0.1: [bold]no[/bold] memory" in text
    assert "failed 1 (resume=errored runs them again)" in text


def test_an_interrupted_sweep_says_how_to_go_on(run: Run, make_job: MakeJob) -> None:
    outcome = run(make_job(confirm=False)).outcome
    outcome.interrupted = True
    assert "interrupted: the same command runs the rest" in summary(outcome)


def test_a_large_grid_shows_its_best_ten(run: Run, make_job: MakeJob) -> None:
    text = summary(run(make_job(layer=(0, 1, 2), rho=[i / 10 for i in range(1, 6)], confirm=False)).outcome)
    assert len(table_rows(text)) == 1 + 10
    assert "the best 10 of 15" in text


def test_every_comparison_has_its_table(run: Run, make_job: MakeJob) -> None:
    text = summary(run(make_job(), make_job(model="other")).outcome)
    assert "tiny on colours, val" in text
    assert "other on colours, val" in text
    assert text.count("winner laser") == 2


def test_a_sweep_without_any_result_prints_no_rows(run: Run, make_job: MakeJob) -> None:
    text = summary(run(make_job(), measure=lambda t: TrialResult(trial=t, status="failed", error="no")).outcome)
    assert table_rows(text) == []
    assert "failed 4" in text


def test_names_and_paths_are_printed_as_they_are_spelled(run: Run, make_job: MakeJob) -> None:
    """Brackets are no markup."""
    text = summary(run(make_job(model="tiny[v2]", dataset="colours[/x]")).outcome, "runs/[a]/store[/b]")
    assert "tiny[v2] on colours[/x], val" in text
    assert "results: runs/[a]/store[/b]/trials, runs/[a]/store[/b]/predictions" in text


def planned(jobs: list[Job], store: ParquetStore, resume: str = "auto") -> str:
    console = Console(file=io.StringIO(), width=120)
    print_plan(console, jobs, plan_sweep(jobs, store, resume), "some/where")
    return console.file.getvalue()


def test_a_plan_tells_what_would_run_and_what_it_costs(run: Run, make_job: MakeJob, store: ParquetStore) -> None:
    """3 pending trials of 1,000 tokens on 5 million parameters: 2 · 5e6 · 3,000 = 0.03 TFLOP."""
    run(make_job(layer=(0,), confirm=False))
    text = planned([make_job(layer=(0, 1, 2, 3))], store)
    assert "plan (nothing is run)" in text
    assert re.search(r"tiny\s+colours\s+4\s+10\s+40\s+1,000", text)
    assert "trials 5 (the untouched model included): reused 2, failed before 0, to run 3" in text
    assert "estimated cost: 3,000 tokens, 0.03 TFLOP (2 x parameters x tokens)" in text
    assert "store: some/where" in text


def test_a_plan_tells_what_failed_before(run: Run, make_job: MakeJob, store: ParquetStore) -> None:
    run(make_job(confirm=False), measure=lambda t: TrialResult(trial=t, status="failed", error="no"))
    assert "reused 4, failed before 4, to run 0" in planned([make_job()], store)
    assert "reused 0, failed before 0, to run 4" in planned([make_job()], store, resume="errored")


def test_a_plan_counts_a_trial_that_two_jobs_share_once(make_job: MakeJob, store: ParquetStore) -> None:
    text = planned([make_job(rho=(0.1, 0.2)), make_job(rho=(0.2, 0.3))], store)
    assert "trials 10 (the untouched model included): reused 0, failed before 0, to run 10" in text


def test_a_plan_that_evaluates_all_counts_the_tokens_of_both_splits(make_job: MakeJob, store: ParquetStore) -> None:
    text = planned([make_job(split="all")], store)
    assert "to run 8" in text
    assert "estimated cost: 20,000 tokens" in text


def test_planning_writes_nothing(make_job: MakeJob, store: ParquetStore) -> None:
    planned([make_job()], store)
    assert list(store.root.iterdir()) == []
