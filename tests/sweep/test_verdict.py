"""What the numbers of a winner are worth, in words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.search.spec import GridSpec, HalvingSpec, RacingSpec, SearchSpec
from laser_sweep.sweep.verdict import verdict
from laser_sweep.trial import Trial, TrialResult

MakeJob = Callable[..., Job]
Run = Callable[..., Any]
Answered = Callable[..., TrialResult]


def told(ran: Any, place: int = 0) -> list[str]:
    return list(verdict(ran.outcome, place))


# A flip to a constant answer

Counts = tuple[tuple[str, int], ...]
SAME: Counts = (("yes", 0), ("no", 40))
MIXED: Counts = (("yes", 17), ("no", 23))


def classes(answered: Answered, said: dict[tuple[str, bool], Counts]) -> Callable[[Trial], TrialResult]:
    """Winners that get 25 of 40 right, and untouched models 15, with so many of each answer by split and edit."""

    def measure(trial: Trial) -> TrialResult:
        count = {"val": 10, "test": 40}[trial.evaluation.split]
        right = np.arange(count) < count * (0.375 if trial.untouched else 0.625)
        result = answered(trial, right)
        counts = said.get((trial.evaluation.split, trial.untouched), MIXED)
        metrics = replace(result.measured(), prediction_counts=counts, majority_accuracy=0.625, balanced_accuracy=0.5)
        return replace(result, metrics=metrics)

    return measure


def test_a_flip_to_a_constant_answer_is_told_in_words(run: Run, make_job: MakeJob, answered: Answered) -> None:
    lines = told(run(make_job(), measure=classes(answered, {("test", False): SAME})))
    [line] = [line for line in lines if "flip" in line]
    assert line == (
        "[yellow]the winner says 'no' to 100.0 % of the examples: it answers the same whatever is asked (majority "
        "class 62.5 %, balanced accuracy 50.0 %), so its gain is a flip to a constant answer[/]"
    )
    assert lines.index(line) == 1 + next(n for n, line in enumerate(lines) if "winner laser" in line)


def test_a_flip_from_one_constant_answer_to_another_is_told(run: Run, make_job: MakeJob, answered: Answered) -> None:
    said = {("test", False): SAME, ("test", True): (("yes", 40), ("no", 0))}
    [line] = [line for line in told(run(make_job(), measure=classes(answered, said))) if "flip" in line]
    assert "the untouched model 'yes' to 100.0 %" in line
    assert "a flip from one constant answer to another" in line


@pytest.mark.parametrize(
    "said", [{}, {("val", False): SAME}, {("test", True): SAME}], ids=["nowhere", "on val alone", "the untouched model"]
)
def test_there_is_no_word_of_a_flip_where_the_winner_gives_several_answers_on_test(
    said: dict[tuple[str, bool], Counts], run: Run, make_job: MakeJob, answered: Answered
) -> None:
    lines = told(run(make_job(), measure=classes(answered, said)))
    assert any("winner laser" in line for line in lines)
    assert not any("flip" in line or "constant" in line for line in lines)


def test_an_untouched_model_that_wins_is_not_called_a_flip(run: Run, make_job: MakeJob, answered: Answered) -> None:
    def constant(trial: Trial) -> TrialResult:
        result = classes(answered, {})(trial)
        worse = answered(trial, [False] * result.measured().num_examples, log_loss=9.0)
        return replace(
            result if trial.untouched else worse,
            metrics=replace((result if trial.untouched else worse).measured(), prediction_counts=SAME),
        )

    lines = told(run(make_job(), measure=constant))
    assert lines[-1] == "no edit is better than the untouched model on val"
    assert not any("flip" in line for line in lines)


def test_an_answer_is_printed_as_it_is_spelled(run: Run, make_job: MakeJob, answered: Answered) -> None:
    said = {("test", False): (("yes", 0), ("[no]", 40))}
    assert any(r"'\[no]'" in line for line in told(run(make_job(), measure=classes(answered, said))))


# Too few examples


def needed(wins: int, losses: int, count: int, candidates: int) -> int:
    """Connor's number of pairs for a two-sided McNemar test at 5 % over all candidates, with a power of 80 %."""
    gain, changed = (wins - losses) / count, (wins + losses) / count
    luck = NormalDist().inv_cdf(1 - 0.05 / candidates / 2) * math.sqrt(changed)
    missed = NormalDist().inv_cdf(0.8) * math.sqrt(changed - gain**2)
    return math.ceil(((luck + missed) / gain) ** 2)


def luckiest(changed: float, count: int, candidates: int) -> float:
    """The gain in the mean of the best of so many candidates that win as often as they lose, example by example."""
    sums = np.ones(1)
    for _ in range(count):
        sums = np.convolve(sums, [changed / 2, 1 - changed, changed / 2])
    below = np.concatenate([[0.0], np.cumsum(sums) ** candidates])
    return float(np.arange(-count, count + 1) @ np.diff(below)) / count


def numbers(line: str) -> list[str]:
    return re.findall(r"[+-]?\d[\d,]*(?:\.\d+)?", line)


def swaps(answered: Answered, job: Job, wins: float, losses: float, best: int = 2) -> Callable[[Trial], TrialResult]:
    """The untouched model gets half of the examples right; layer `best` loses and wins such shares of all of them, and
    each other candidate loses one example. Examples answer alike however many are asked."""
    ids = {split: [example.id for example in job.task.split(split)] for split in ("val", "test")}

    def measure(trial: Trial) -> TrialResult:
        asked = trial.evaluation
        count = len(ids[asked.split])
        right = np.arange(count) < count // 2
        if trial.edits and trial.edits[0].matrix.layer == best:
            right[: round(losses * count)] = False
            right[count // 2 : count // 2 + round(wins * count)] = True
        elif trial.edits:
            right[0] = False
        by_id = dict(zip(ids[asked.split], right, strict=True))
        names = [example.id for example in job.task.split(asked.split, asked.limit, asked.seed)]
        sure = 0.5 if trial.edits and trial.edits[0].matrix.layer == best else 1.0
        return answered(trial, [by_id[name] for name in names], ids=names, log_loss=sure)

    return measure


def warnings_of(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if "picked among" in line]


@pytest.mark.parametrize(("layers", "examples"), [(3, 400), (12, 400), (3, 1000)])
def test_a_winner_that_was_picked_on_too_few_examples_is_warned_of_with_the_number_it_takes(
    layers: int, examples: int, run: Run, make_job: MakeJob, answered: Answered
) -> None:
    job = make_job(layer=range(layers), examples=examples)
    there = examples // 5
    wins, losses = round(0.2 * there), round(0.1 * there)
    lines = told(run(job, measure=swaps(answered, job, 0.2, 0.1)))
    [line] = warnings_of(lines)
    assert "of colours" in line
    assert numbers(line) == [
        f"{layers}",
        f"{there}",
        f"{100 * luckiest((wins + losses) / there, there, layers):+.1f}",
        "+10.0",
        f"{needed(wins, losses, there, layers):,}",
    ]
    assert needed(wins, losses, there, layers) > there
    assert lines[-1] == line


def test_as_many_examples_as_it_takes_are_enough(run: Run, make_job: MakeJob, answered: Answered) -> None:
    """The same winner, on one example too few and on just enough."""
    takes = next(
        count for count in range(20, 4000, 2) if needed(round(0.2 * count), round(0.1 * count), count, 3) <= count
    )
    for count, warned in ((takes, False), (takes // 2, True)):
        job = make_job(layer=range(3), examples=5 * count)
        lines = told(run(job, measure=swaps(answered, job, 0.2, 0.1), resume="never"))
        assert bool(warnings_of(lines)) == warned
        assert any("winner laser fc_in[2]" in line for line in lines)


def test_a_single_candidate_was_not_picked(run: Run, make_job: MakeJob, answered: Answered) -> None:
    job = make_job(layer=(2,), examples=100)
    lines = told(run(job, measure=swaps(answered, job, 0.2, 0.1)))
    assert any("winner laser" in line for line in lines)
    assert warnings_of(lines) == []


def test_a_winner_that_is_surer_but_no_more_accurate_has_no_gain_to_doubt(
    run: Run, make_job: MakeJob, answered: Answered
) -> None:
    job = make_job(examples=100, objective="log_loss")
    lines = told(run(job, measure=swaps(answered, job, 0.1, 0.1)))
    assert any("winner laser" in line for line in lines)
    assert warnings_of(lines) == []


def test_nothing_is_said_of_luck_where_no_edit_wins(run: Run, make_job: MakeJob, answered: Answered) -> None:
    job = make_job(examples=100)
    lines = told(run(job, measure=swaps(answered, job, 0.0, 0.3)))
    assert lines[-1] == "no edit is better than the untouched model on val"


@pytest.mark.parametrize(
    "search",
    [GridSpec(), HalvingSpec(min_examples=8, reduction=3), RacingSpec(min_examples=8)],
    ids=lambda search: search.name,
)
def test_candidates_that_were_dropped_early_were_looked_at_too(
    search: SearchSpec, run: Run, make_job: MakeJob, answered: Answered
) -> None:
    """All 30 had the chance to be the luckiest on the examples that picked the winner."""
    job = make_job(layer=range(30), examples=400, search=search)
    [line] = warnings_of(told(run(job, measure=swaps(answered, job, 0.2, 0.1))))
    candidates, examples, _, _, takes = numbers(line)
    assert (candidates, examples, takes) == ("30", "80", f"{needed(16, 8, 80, 30)}")


def test_every_data_set_of_a_shared_winner_is_judged_by_itself(run: Run, make_job: MakeJob, answered: Answered) -> None:
    """3,000 examples are enough, 80 are not."""
    jobs = [
        make_job(dataset=name, examples=size, objective="mean_accuracy")
        for name, size in (("colours", 15_000), ("shapes", 400))
    ]
    measures = {job.task.name: swaps(answered, job, 0.2, 0.1) for job in jobs}
    lines = told(run(*jobs, measure=lambda trial: measures[trial.evaluation.dataset](trial)))
    [line] = warnings_of(lines)
    assert "of shapes" in line
    assert numbers(line)[:2] == ["3", "80"]


def test_nothing_is_told_of_what_was_not_confirmed(run: Run, make_job: MakeJob) -> None:
    assert told(run(make_job(confirm=False))) == []
