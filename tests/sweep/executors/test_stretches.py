"""A sweep cut into stretches: every trial once, none below what a worker holds, and all of nearly the same cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.sweep.executors.queue import TrialQueue
from laser_sweep.sweep.executors.stretches import Stretch, cut
from laser_sweep.sweep.protocols import WorkUnit
from laser_sweep.trial import Edit, Evaluation, Matrix, ModelId, Trial

MODEL = ModelId(name="m", repo="m", revision="1", dtype="float32")


def unit(layer: int, size: int, *, layers: int = 12, tokens: int = 100, dataset: str = "d") -> WorkUnit:
    evaluation = Evaluation(dataset=dataset, revision=dataset, split="val")
    trials = tuple(
        Trial(model=MODEL, edits=(Edit(matrix=Matrix("fc_in", layer), rho=place / 1000),), evaluation=evaluation)
        for place in range(size)
    )
    return WorkUnit(trials, trial_cost=tokens * (layers - layer), entry_cost=tokens * layer)


def untouched(dataset: str = "d") -> WorkUnit:
    (first,) = unit(0, 1, dataset=dataset).trials
    return WorkUnit((replace(first, edits=()),), trial_cost=1200.0)


def cost(stretch: Stretch) -> float:
    """What a worker without states takes: for one data set, the way up to the last unit and every trial."""
    return stretch[-1].entry_cost + sum(len(part.trials) * part.trial_cost for part in stretch)


@given(sizes=st.lists(st.integers(1, 20), max_size=12), sets=st.integers(1, 3), workers=st.integers(1, 70))
def test_every_edited_trial_is_in_one_stretch_and_stretches_go_up(sizes: list[int], sets: int, workers: int) -> None:
    units = [unit(layer, size, dataset=str(d)) for d in range(sets) for layer, size in enumerate(sizes)]
    stretches = cut([*(untouched(str(d)) for d in range(sets)), *units], workers)
    assert len(stretches) <= workers
    dealt = Counter(trial for stretch in stretches for part in stretch for trial in part.trials)
    assert dealt == Counter(trial for each in units for trial in each.trials)
    for stretch in stretches:
        places = [(part.trials[0].evaluation.dataset, part.entry_cost) for part in stretch]
        assert places == sorted(set(places))


def test_one_worker_gets_all_in_order() -> None:
    units = [unit(layer, 3) for layer in range(4)]
    assert cut(units, 1) == [tuple(units)]


def test_more_workers_than_trials_get_one_each() -> None:
    stretches = cut([unit(3, 2), unit(5, 1)], 9)
    assert sorted(len(part.trials) for stretch in stretches for part in stretch) == [1, 1, 1]


def test_trials_of_no_examples_cost_nothing_and_are_dealt_out_too() -> None:
    assert [len(part.trials) for stretch in cut([unit(3, 2, tokens=0)], 2) for part in stretch] == [2]


def test_stretches_of_many_trials_cost_the_same() -> None:
    stretches = cut([unit(layer, 70) for layer in range(12)], 8)
    costs = [cost(stretch) for stretch in stretches]
    assert len(costs) == 8
    assert costs == sorted(costs, reverse=True)
    assert min(costs) > 0.97 * max(costs)


def test_room_is_left_for_the_untouched_model() -> None:
    """Two workers: the one that measures the untouched model, as long as twelve blocks, has so much less to do."""
    stretches = cut([untouched(), unit(0, 9)], 2)
    assert [len(part.trials) for stretch in stretches for part in stretch] == [5, 4]


@given(sizes=st.lists(st.integers(1, 7), max_size=6), workers=st.integers(1, 8), data=st.data())
def test_a_queue_for_so_many_workers_hands_out_every_trial_once(
    sizes: list[int], workers: int, data: st.DataObject
) -> None:
    units = [untouched(), *(unit(layer, size) for layer, size in enumerate(sizes))]
    queue = TrialQueue(units, workers=workers)
    holds: dict[int, Trial | None] = dict.fromkeys(range(workers))
    finished: Counter[Trial] = Counter()
    deaths = 0
    while len(queue) or any(holds.values()):
        worker = data.draw(st.sampled_from(sorted(holds)))
        if deaths < 3 and data.draw(st.integers(0, 9)) == 0:
            queue.put_back(worker, holds.pop(worker))
            deaths += 1
            holds[workers + deaths] = None
            continue
        if holds[worker] is not None:
            finished[holds[worker]] += 1
        holds[worker] = queue.next(worker)
    assert finished == Counter(trial for each in units for trial in each.trials)


def test_who_is_done_first_takes_over_what_saves_time() -> None:
    units = [unit(0, 8)]
    queue = TrialQueue(units, workers=2)
    first = [queue.next("a"), queue.next("b")]
    assert None not in first
    a = [queue.next("a") for _ in range(4)]  # its own four, less the first, and one of b's
    assert None not in a
    assert [queue.next("b"), queue.next("b"), queue.next("b")].count(None) == 1
