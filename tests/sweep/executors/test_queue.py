"""Who gets which trial next: every one exactly once, and each worker stays with its layer while it can."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.sweep.executors.queue import TrialQueue
from laser_sweep.sweep.protocols import WorkUnit
from laser_sweep.trial import Edit, Evaluation, Matrix, ModelId, Trial

MODEL = ModelId(name="m", repo="m", revision="1", dtype="float32")
EVALUATION = Evaluation(dataset="d", revision="1", split="val")


def unit(layer: int, size: int) -> WorkUnit:
    return WorkUnit(
        tuple(
            Trial(
                model=MODEL,
                edits=(Edit(matrix=Matrix("fc_in", layer), rho=place / 1000),),
                evaluation=EVALUATION,
                layer=layer,
            )
            for place in range(size)
        )
    )


def units(sizes: list[int]) -> list[WorkUnit]:
    return [unit(layer, size) for layer, size in enumerate(sizes)]


@given(sizes=st.lists(st.integers(1, 7), max_size=6), workers=st.integers(1, 8), data=st.data())
def test_every_trial_is_handed_out_exactly_once_in_whatever_order_workers_come_and_go(
    sizes: list[int], workers: int, data: st.DataObject
) -> None:
    """A worker may ask, or die with the trial that it holds, which then is nobody's and must come again."""
    work = units(sizes)
    queue = TrialQueue(work)
    holds: dict[int, Trial | None] = dict.fromkeys(range(workers))
    finished: Counter[Trial] = Counter()
    deaths = 0
    while True:
        idle_for_good = not len(queue) and not any(holds.values())
        if idle_for_good:
            break
        worker = data.draw(st.sampled_from(sorted(holds)))
        if deaths < 5 and data.draw(st.integers(0, 9)) == 0:
            queue.put_back(worker, holds.pop(worker))
            deaths += 1
            holds[workers + deaths] = None  # a new worker in its place
            continue
        if holds[worker] is not None:
            finished[holds[worker]] += 1
        before = len(queue)
        holds[worker] = queue.next(worker)
        assert len(queue) == before - (holds[worker] is not None)
        assert (holds[worker] is None) == (before == 0)
    assert finished == Counter(trial for each in work for trial in each.trials)
    assert all(queue.next(worker) is None for worker in holds)


def test_a_worker_stays_within_its_unit_to_the_end() -> None:
    queue = TrialQueue(units([3, 3, 3]))
    order = [(worker, queue.next(worker)) for worker in ("a", "b") * 3]
    assert [trial.layer for worker, trial in order if worker == "a"] == [0, 0, 0]
    assert [trial.layer for worker, trial in order if worker == "b"] == [1, 1, 1]


def test_a_unit_is_handed_out_in_its_order() -> None:
    work = unit(0, 5)
    queue = TrialQueue([work])
    assert [queue.next("a") for _ in range(5)] == list(work.trials)


def test_units_are_handed_out_in_their_order() -> None:
    queue = TrialQueue(units([1, 1, 1, 1]))
    assert [queue.next(worker).layer for worker in "abcd"] == [0, 1, 2, 3]


def test_an_idle_worker_takes_over_the_last_half_of_the_largest_unit_left() -> None:
    small, large = unit(0, 3), unit(1, 9)
    queue = TrialQueue([small, large])
    queue.next("b"), queue.next("a")  # the longest unit goes first: 8 and 2 are left
    assert [queue.next("c") for _ in range(4)] == list(large.trials[5:])
    assert [queue.next("b") for _ in range(4)] == list(large.trials[1:5])
    assert [queue.next("a") for _ in range(2)] == list(small.trials[1:])
    assert [queue.next(worker) for worker in "abc"] == [None] * 3


def test_the_last_trial_of_another_worker_is_taken_over_too() -> None:
    work = unit(0, 2)
    queue = TrialQueue([work])
    assert [queue.next("a"), queue.next("b"), queue.next("a")] == [*work.trials, None]


def test_one_large_unit_keeps_many_workers_busy_to_the_end() -> None:
    """Four workers that take equally long for each trial finish 64 trials in 16 rounds."""
    queue = TrialQueue([unit(0, 64)])
    rounds = 0
    while len(queue):
        assert None not in [queue.next(worker) for worker in "abcd"]
        rounds += 1
    assert rounds == 16


def test_the_trials_of_a_dead_worker_come_next_the_running_one_first() -> None:
    first, second = unit(0, 3), unit(1, 3)
    queue = TrialQueue([first, second])
    running = queue.next("a")
    queue.put_back("a", running)
    assert [queue.next("b") for _ in range(6)] == [*first.trials, *second.trials]


def test_a_worker_that_dies_idle_leaves_nothing_behind() -> None:
    queue = TrialQueue([])
    queue.put_back("a", None)
    assert len(queue) == 0
    assert queue.next("b") is None


def test_after_clear_nothing_is_left() -> None:
    queue = TrialQueue(units([3, 3]))
    queue.next("a")
    queue.clear()
    assert len(queue) == 0
    assert queue.next("a") is None
    assert queue.next("b") is None


def sized(layer: int, size: int, *, layers: int = 10, tokens: int = 100, dataset: str = "d") -> WorkUnit:
    """A unit with the costs of a model of ten layers."""
    evaluation = replace(EVALUATION, dataset=dataset, revision=dataset)
    trials = tuple(replace(trial, evaluation=evaluation) for trial in unit(layer, size).trials)
    return WorkUnit(trials, trial_cost=tokens * (layers - layer), entry_cost=tokens * layer)


def test_a_worker_goes_up_the_layers_whose_states_it_holds() -> None:
    queue = TrialQueue([sized(layer, 1) for layer in (0, 2, 5, 7)])
    assert [queue.next(worker).layer for worker in "ab"] == [0, 2]
    assert queue.next("b").layer == 5  # the next above
    assert queue.next("a").layer == 7


def test_a_worker_stays_with_its_examples_while_there_are_units_of_them() -> None:
    work = [sized(0, 2, dataset="d"), sized(0, 1, dataset="e", tokens=900), sized(3, 1, dataset="d")]
    queue = TrialQueue(work)
    first = queue.next("a")
    assert first.evaluation.dataset == "e"  # the longest unit that waits
    assert [queue.next("b").evaluation.dataset for _ in range(3)] == ["d"] * 3


def test_an_untouched_model_comes_before_everything() -> None:
    untouched = WorkUnit((Trial(model=MODEL, edits=(), evaluation=EVALUATION),), trial_cost=1.0)
    queue = TrialQueue([sized(0, 3), untouched])
    assert queue.next("a").untouched


def test_a_unit_is_shared_only_as_far_as_both_workers_finish_sooner() -> None:
    """In the last of ten layers a trial is one block, and whoever comes to help runs nine first."""
    queue = TrialQueue([sized(9, 9)])
    queue.next("a")
    assert queue.next("b") is None
    queue = TrialQueue([sized(9, 21)])
    queue.next("a")
    taken = 0
    while queue.next("b") is not None and taken < 21:
        taken += 1
    assert taken >= 6  # entry 9 + 6 trials is not more than the 14 that stay
