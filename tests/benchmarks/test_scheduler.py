"""The simulation says what a person would count by hand, and the real queue comes close to the best there is."""

from __future__ import annotations

import pytest

from benchmarks.scheduler import GRIDS, Grid, InOrder, grid_units, lower_bound, simulate
from laser_sweep.sweep.executors.queue import TrialQueue

TINY = Grid(layers=4, edited=range(2, 4), taus=("fc_in",), rhos=2)


def test_a_worker_alone_pays_for_every_trial_and_once_for_each_block_below() -> None:
    units = grid_units(TINY)
    found = simulate(units, 1, TrialQueue(units))
    # untouched 4; up to layer 2, twice the two blocks from there; one block further, twice the last one
    assert found.makespan == 4 + 2 + 2 * 2 + 1 + 2 * 1
    assert found.utilisation == 1


def test_who_comes_down_the_layers_computes_the_states_again() -> None:
    units = grid_units(Grid(layers=4, edited=range(2, 4), taus=("fc_in", "fc_out"), rhos=1))
    in_order = simulate(units, 1, InOrder(units))  # fc_in 2, fc_in 3, fc_out 2, fc_out 3
    assert in_order.makespan == 4 + (2 + 2) + (1 + 1) + (2 + 2) + (1 + 1)


def test_two_workers_that_share_nothing_end_when_the_longer_ends() -> None:
    units = grid_units(Grid(layers=4, edited=range(3, 4), taus=("fc_in",), rhos=1))
    found = simulate(units, 2, InOrder(units))
    assert found.makespan == 4
    assert found.utilisation == (4 + 3 + 1) / (2 * 4)


def test_what_a_trial_takes_besides_counts_for_each() -> None:
    units = grid_units(TINY)
    bare = simulate(units, 1, TrialQueue(units)).makespan
    assert simulate(units, 1, TrialQueue(units), besides=0.5).makespan == bare + 5 * 0.5


@pytest.mark.parametrize("workers", [8, 64])
@pytest.mark.parametrize("name", GRIDS)
def test_workers_are_busy_on_the_published_grids(name: str, workers: int) -> None:
    """Where a worker has a few trials, which cannot be shared, it may not; but the sweep ends as early as it can."""
    units = grid_units(GRIDS[name])
    found = simulate(units, workers, TrialQueue(units, workers=workers))
    assert found.makespan >= lower_bound(units, workers)
    assert found.makespan <= simulate(units, workers, InOrder(units)).makespan
    # The shortest time of whole trials, from a linear programme over what a worker can do in a given time.
    shortest = {("llama2_bbh", 8): 51, ("llama2_bbh", 64): 32}
    if (name, workers) in shortest:
        assert found.makespan == shortest[name, workers]
    else:
        assert found.utilisation >= {8: 0.95, 64: 0.9}[workers]
