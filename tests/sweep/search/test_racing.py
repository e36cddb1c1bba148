"""Racing: the best candidate is seldom dropped, those that are clearly worse soon, on examples that only go on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from laser_sweep.measures import Objective
from laser_sweep.sweep.jobs import Job
from laser_sweep.sweep.protocols import AskTrials, Findings, Score
from laser_sweep.sweep.search.registry import make_search
from laser_sweep.sweep.search.space import Space
from laser_sweep.sweep.search.spec import RacingSpec
from laser_sweep.trial import Edit, ExampleScores, Trial, TrialResult

MakeSpace = Callable[..., Space]
MakeOracle = Callable[..., Any]
MakeJob = Callable[..., Job]
Edits = tuple[Edit, ...]

RUNS = 2000
NUM_EXAMPLES = 512  # looked at after 16, 32, 64, 128 and 256; what is left after them is never dropped
COMPETITORS = 5  # the untouched model and four candidates


def begin(
    space: Space, objective: Objective, error: float = 0.05, least: int = 16, num_examples: int = NUM_EXAMPLES
) -> Any:
    return make_search(RacingSpec(min_examples=least, error=error), [space], objective, num_examples, 0)


def race(search: Any, correct: np.ndarray, losses: np.ndarray) -> dict[Edits, int]:
    """How many examples each candidate had seen when it was dropped, of those that were. (competitors, examples) are
    the answers of the untouched model and of the candidates in order."""
    rows: dict[Edits, int] = {(): 0, **{c.edits: place for place, c in enumerate(search.alive, start=1)}}
    names = tuple(map(str, range(correct.shape[1])))
    seen: dict[Edits, int] = {}
    while (ask := search.ask()) is not None:
        scores = {}
        for edits in [(), *(candidate.edits for candidate in ask.candidates)]:
            right, loss = correct[rows[edits], : ask.limit], losses[rows[edits], : ask.limit]
            accuracy, log_loss = float(right.mean()), float(loss.mean())
            value = (accuracy, -log_loss) if search.objective == "accuracy" else (-log_loss, accuracy)
            scores[edits] = Score(value=value, loss=log_loss, examples=ExampleScores(names[: ask.limit], right, loss))
        search = search.tell(Findings(scores=scores))
        left = {candidate.edits for candidate in search.alive}
        seen |= {c.edits: ask.limit for c in ask.candidates if c.edits not in left}
    return seen


# How often the best one is dropped


def answers(name: str, random: np.random.Generator) -> np.ndarray:
    """(competitors, examples) answers of one run, of which the second competitor, the first candidate, is the best.

    Most examples are easy or hard for all of them, as they are for edits of one model.
    """
    shape = (COMPETITORS, NUM_EXAMPLES)
    shared = random.random(NUM_EXAMPLES) < 0.6
    if name == "none differs":  # each answers one example in ten for itself
        return np.where(random.random(shape) < 0.1, random.random(shape) < 0.6, shared)
    if name == "answers have nothing in common":
        return random.random(shape) < 0.6
    own = np.array([0.55, 0.6, 0.55, 0.55, 0.55])[:, None]
    return np.where(random.random(shape) < 0.2, random.random(shape) < own, shared)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("none differs", 0.05),
        ("none differs", 0.2),
        ("answers have nothing in common", 0.2),
        ("the others are slightly worse", 0.05),
    ],
)
def test_by_accuracy_the_best_is_dropped_no_more_often_than_said(
    name: str, error: float, make_space: MakeSpace
) -> None:
    space = make_space(tau=("fc_in",), layer=range(COMPETITORS - 1), rho=(0.1,))
    best = space.grid()[0].edits
    random = np.random.default_rng(1)
    start = begin(space, "accuracy", error)
    dropped = 0
    for _ in range(RUNS):
        correct = answers(name, random)
        dropped += best in race(start, correct, np.zeros(correct.shape))
    assert dropped / RUNS < error


def losses_of(name: str, random: np.random.Generator) -> np.ndarray:
    """(competitors, examples) losses of one run, in nats, of the same mean but where the name says otherwise."""
    shape = (COMPETITORS, NUM_EXAMPLES)
    shared = random.exponential(2.0, NUM_EXAMPLES)
    if name == "each has noise of its own":
        return shared + random.normal(0, 0.3, shape)
    if name == "the best seldom fails, but much":  # nearly always 0.1 better, on one example in 30 2.9 worse
        fails = random.random(NUM_EXAMPLES) < 1 / 30
        found = np.tile(shared, (COMPETITORS, 1))
        found[1] += np.where(fails, 2.9, -0.1)
        return found
    return shared + random.normal(0, 1, shape) + np.array([0.05, 0, 0.05, 0.05, 0.05])[:, None]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("each has noise of its own", 0.05),
        ("each has noise of its own", 0.2),
        ("the best seldom fails, but much", 0.05),
        ("the others are slightly worse", 0.2),
    ],
)
def test_by_log_loss_the_best_is_dropped_no_more_often_than_said(
    name: str, error: float, make_space: MakeSpace
) -> None:
    space = make_space(tau=("fc_in",), layer=range(COMPETITORS - 1), rho=(0.1,))
    best = space.grid()[0].edits
    random = np.random.default_rng(2)
    start = begin(space, "log_loss", error)
    dropped = 0
    for _ in range(RUNS):
        losses = losses_of(name, random)
        dropped += best in race(start, losses < 1, losses)
    assert dropped / RUNS < error


# How soon others are


@pytest.mark.parametrize(("objective", "early"), [("accuracy", 64), ("log_loss", 128)])
def test_candidates_that_are_clearly_worse_are_dropped_early(
    objective: Objective, early: int, make_space: MakeSpace
) -> None:
    """30 points of accuracy below the best, or 0.8 nats above it."""
    space = make_space(tau=("fc_in",), layer=range(COMPETITORS - 1), rho=(0.1,))
    best, *worse = (candidate.edits for candidate in space.grid())
    random = np.random.default_rng(3)
    start = begin(space, objective)
    seen: list[int] = []
    for _ in range(100):
        shared = random.random(NUM_EXAMPLES)
        correct = shared < np.array([0.5, 0.8, 0.5, 0.5, 0.5])[:, None]
        noise = random.normal(0, 0.3, correct.shape)
        losses = 3 * shared + noise + np.array([0.8, 0.0, 0.8, 0.8, 0.8])[:, None]
        dropped = race(start, correct, losses)
        assert best not in dropped
        seen += [dropped.get(edits, NUM_EXAMPLES) for edits in worse]
    assert np.mean(np.array(seen) <= early) > 0.9


@pytest.mark.parametrize(("candidates", "error"), [(1, 0.05), (3, 0.05), (3, 0.2), (40, 0.2)])
def test_by_accuracy_a_candidate_is_dropped_when_the_evidence_is_as_said(
    candidates: int, error: float, make_space: MakeSpace
) -> None:
    """The e-value of b examples that only the other gets right is 4 / π ∫ (2 sin² φ)^b dφ from π / 4 to π / 2, and each
    candidate has as many others, with the untouched model, as there are candidates."""
    space = make_space(tau=("fc_in",), layer=range(candidates), rho=(0.1,))
    last = space.grid()[-1].edits
    start = begin(space, "accuracy", error, least=100, num_examples=200)
    for wins in range(1, 30):
        evidence = 4 / math.pi * quad(lambda phi, b=wins: (2 * math.sin(phi) ** 2) ** b, math.pi / 4, math.pi / 2)[0]
        correct = np.zeros((candidates + 1, 200), dtype=np.bool_)
        correct[0, 5 : 5 + wins] = True
        correct[1:-1] = correct[0]
        assert (race(start, correct, np.zeros(correct.shape)).get(last) == 100) == (evidence >= candidates / error)


def test_candidates_that_are_out_still_count(make_space: MakeSpace) -> None:
    """Eight wins are an e-value of 100: more than the 10 that two candidates take, less than the 200 that 40 do."""
    space = make_space(tau=("fc_in",), layer=range(40), rho=(0.1,))
    _, second, *others = (candidate.edits for candidate in space.grid())
    correct = np.zeros((41, 400), dtype=np.bool_)
    correct[[0, 1, 2], :50] = True
    correct[1, 60:68] = True
    dropped = race(begin(space, "accuracy", 0.2, least=50, num_examples=400), correct, np.zeros(correct.shape))
    assert dropped == dict.fromkeys(others, 50)
    pair = make_space(tau=("fc_in",), layer=range(2), rho=(0.1,))
    start = begin(pair, "accuracy", 0.2, least=50, num_examples=400)
    assert race(start, correct[:3], np.zeros((3, 400))) == {second: 100}


def test_by_log_loss_several_candidates_share_the_chance_of_an_error(make_space: MakeSpace) -> None:
    """Four are judged as strictly as two are at half the error."""
    two, four = (make_space(tau=("fc_in",), layer=range(n), rho=(0.1,)) for n in (2, 4))
    losses = np.random.default_rng(4).random((5, NUM_EXAMPLES))
    losses[0] -= 0.4
    losses[1:4] = losses[0]  # only the last one is worse than the untouched model
    pair = losses[[0, 1, 4]]
    [of_four] = race(begin(four, "log_loss", 0.3), losses < 0, losses).values()
    [of_two] = race(begin(two, "log_loss", 0.15), pair < 0, pair).values()
    [sooner] = race(begin(two, "log_loss", 0.9), pair < 0, pair).values()
    assert of_four == of_two > sooner


def test_one_example_has_no_more_weight_than_one_nat(make_space: MakeSpace) -> None:
    """However bad a single answer is, it alone drops nobody; a little worse everywhere does."""
    space = make_space(tau=("fc_in",), layer=range(2), rho=(0.1,))
    first, second = (candidate.edits for candidate in space.grid())
    losses = np.full((3, NUM_EXAMPLES), 5.0)
    losses[1, 3] = 1e6
    assert race(begin(space, "log_loss"), losses < 0, losses) == {}
    losses[2] += 0.5
    assert set(race(begin(space, "log_loss"), losses < 0, losses)) == {second}
    assert first != second


def test_the_untouched_model_takes_part_but_is_no_candidate(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(tau=("fc_in",), layer=range(3), rho=(0.1,))
    oracle = make_oracle(lambda edits: (0.1 if edits else 0.9, 1.0), num_examples=256)
    end, asks = oracle.finish(begin(space, "accuracy", least=32, num_examples=256))
    assert end.alive == ()
    assert all(c.edits for ask in asks for c in ask.candidates)


# Rounds


def test_every_round_has_twice_the_examples_until_one_is_left_which_is_measured_in_full(
    make_space: MakeSpace, make_oracle: MakeOracle
) -> None:
    space = make_space(tau=("fc_in",), layer=range(4), rho=(0.1,))
    accuracies = {(): 0.5, **{c.edits: a for c, a in zip(space.grid(), (0.9, 0.1, 0.5, 0.7), strict=True)}}
    oracle = make_oracle(lambda edits: (accuracies[edits], 1.0), num_examples=5000)
    end, asks = oracle.finish(begin(space, "accuracy", least=10, num_examples=5000))
    sizes = [ask.limit for ask in asks]
    assert sizes[:-1] == [10 * 2**n for n in range(len(sizes) - 1)]
    assert sizes[-1] == 5000 > 2 * sizes[-2]
    counts = [len(ask.candidates) for ask in asks]
    assert (counts[0], counts[-2] > 1, counts[-1]) == (4, True, 1)
    assert counts == sorted(counts, reverse=True)
    assert all(ask.by_example for ask in asks)
    assert [c.edits for c in end.alive] == [space.grid()[0].edits]
    told = ", ".join(f"{count} on {size:,} examples" for size, count in zip(sizes, counts, strict=True))
    assert end.notes() == [f"racing (the best is dropped with a chance of at most 0.05): {told}"]


def test_candidates_that_are_alike_all_reach_the_end(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(tau=("fc_in",), layer=range(4), rho=(0.1,))
    _, asks = make_oracle(lambda edits: (0.5, 1.0), num_examples=100).finish(
        begin(space, "accuracy", least=32, num_examples=100)
    )
    assert [(ask.limit, len(ask.candidates)) for ask in asks] == [(32, 4), (64, 4), (100, 4)]


def test_a_candidate_that_failed_is_out_of_the_race(make_space: MakeSpace, make_oracle: MakeOracle) -> None:
    space = make_space(tau=("fc_in",), layer=range(4), rho=(0.1,))
    failed = [space.grid()[2].edits]
    _, asks = make_oracle(lambda edits: (0.5, 1.0), num_examples=100, failed=failed).finish(
        begin(space, "accuracy", least=32, num_examples=100)
    )
    assert [[c.layer for c in ask.candidates] for ask in asks] == [[0, 1, 2, 3], [0, 1, 3], [0, 1, 3]]


# Whole sweeps: 400 examples of val


@pytest.fixture
def job(make_job: MakeJob) -> Job:
    spec = RacingSpec(min_examples=25, error=0.1)
    return make_job(layer=(0, 1, 2, 3), rho=(0.5, 0.1), examples=2000, seed=5, search=spec)


def effect(trial: Trial) -> tuple[float, float]:
    [at] = [edit.matrix.layer for edit in trial.edits] or [0]
    [rho] = [edit.rho for edit in trial.edits] or [0.5]
    return 0.5 + at / 10 - (rho == 0.1) / 5, 1.0


def test_the_examples_of_a_round_begin_with_those_of_the_one_before(
    run: Callable[..., Any], job: Job, simulated: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the seeded shuffle, whatever that of the data set in which they are measured and stored."""
    search = job.question.search
    told: list[tuple[AskTrials, Findings]] = []
    racing = type(make_search(search, [job.space], "accuracy", 400, 5))
    tell = racing.tell
    monkeypatch.setattr(racing, "tell", lambda self, found: told.append((self.ask(), found)) or tell(self, found))
    measure = simulated(effect, job)
    run(job, measure=measure)
    whole = job.task.split("val")
    order = [whole[place].id for place in job.task.drawn("val", 5)]
    assert order != sorted(order, key=int)
    assert [ask.limit for ask, _ in told][:2] == [25, 50]
    assert len(told) > 2
    for ask, found in told:
        assert set(found.scores) == {(), *(candidate.edits for candidate in ask.candidates)}
        for edits, score in found.scores.items():
            assert score.examples.example_ids == tuple(order[: ask.limit])
            full = measure(replace(job.untouched("val"), edits=edits))
            right = dict(zip(full.predictions.example_id, full.predictions.correct, strict=True))
            losses = dict(zip(full.predictions.example_id, -full.predictions.gold_log_prob, strict=True))
            assert score.examples.scores.tolist() == [right[one] for one in order[: ask.limit]]
            assert score.examples.losses.tolist() == [losses[one] for one in order[: ask.limit]]


def test_a_race_finds_the_winner_of_the_grid_for_a_part_of_its_cost(
    run: Callable[..., Any], job: Job, simulated: Callable[..., Any]
) -> None:
    ran = run(job, measure=simulated(effect, job))
    winner = ran.outcome.confirmed[0][0].winner.trial
    assert (winner.layer, winner.rho) == (3, 0.5)
    measured = defaultdict(int)
    for result in ran.outcome.results.values():
        measured[result.trial.evaluation.split] += result.measured().num_examples
    assert measured["val"] < 0.75 * 9 * 400
    assert measured["test"] == 2 * 1600


def test_where_the_untouched_model_beats_all_candidates_early_it_wins(
    run: Callable[..., Any], job: Job, simulated: Callable[..., Any]
) -> None:
    ran = run(job, measure=simulated(lambda trial: (0.9 if trial.untouched else 0.1, 1.0), job))
    [confirmed] = ran.outcome.confirmed[0]
    assert confirmed.winner.trial.untouched
    assert confirmed.winner.measured().num_examples == 1600


def test_a_candidate_whose_trial_fails_does_not_stop_the_race(
    run: Callable[..., Any], job: Job, simulated: Callable[..., Any]
) -> None:
    measure = simulated(effect, job)

    def fail_the_best(trial: Trial) -> TrialResult:
        broken = trial.layer == 3 and trial.rho == 0.5
        return TrialResult(trial=trial, status="failed", error="it broke") if broken else measure(trial)

    ran = run(job, measure=fail_the_best)
    assert [result.trial.evaluation.limit for result in ran.outcome.failed] == [25]
    assert ran.outcome.confirmed[0][0].winner.trial.layer == 2
