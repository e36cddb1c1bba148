"""How well many workers share a sweep, simulated with the real queue, and what a trial costs the driver of a real Ray.

Simulated are the published grids and a full one. A trial costs its tokens times the blocks from its edit up; a worker
that comes to a layer first pays for the blocks that its states are short of. Compared is the same work handed out in
the order in which it was asked for; both run every trial once. How well blocks times tokens tell the seconds of a real
worker is measured, and so is what a trial takes besides, which the last column adds to every trial.

On Ray, one worker runs trials that take almost nothing: what passes between the end of one and the start of the next is
the driver's.
"""

from __future__ import annotations

import heapq
import itertools
import tempfile
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Protocol

import numpy as np
import torch
from rich.table import Table

from benchmarks.command import Figures, run, show
from benchmarks.shapes import fever_like, write_llama
from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Task
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.executors.queue import TrialQueue
from laser_sweep.sweep.executors.ray import RayExecutor
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.plan import work_units
from laser_sweep.sweep.protocols import WorkUnit
from laser_sweep.trial import TAUS, Edit, Evaluation, Matrix, ModelId, Trial, TrialResult

MODEL = ModelId(name="model", repo="model", revision="1", dtype="float32")
EVALUATION = Evaluation(dataset="data", revision="1", split="val")
RHOS = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.01, 0.005, 0.001)
WORKERS = (8, 64)


@dataclass(frozen=True)
class Grid:
    layers: int
    """Blocks of the model."""
    edited: range
    taus: tuple[str, ...]
    rhos: int


MLP = ("fc_in", "fc_out")
GRIDS = {
    "gptj_bbh": Grid(layers=28, edited=range(17, 28), taus=MLP, rhos=9),
    "llama2_bbh": Grid(layers=32, edited=range(27, 32), taus=MLP, rhos=5),
    "roberta_bbh": Grid(layers=12, edited=range(1, 12), taus=MLP, rhos=9),
    "full, 32 layers": Grid(layers=32, edited=range(32), taus=TAUS, rhos=10),
}


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    examples: int
    repeats: int
    """Trials in each layer of the model whose cost is measured."""
    dispatched: int


FULL = Size(layers=12, hidden=256, examples=300, repeats=3, dispatched=300)
SMALL = Size(layers=3, hidden=64, examples=20, repeats=2, dispatched=10)


def measure(size: Size) -> Figures:
    """The cost model against a worker, the simulation, and the driver's share of a trial."""
    with tempfile.TemporaryDirectory() as directory:
        write_llama(Path(directory), layers=size.layers, hidden=size.hidden, vocabulary=500)
        checkpoint = find_checkpoint(ModelSpec(name="llama", path=directory))
        fit = fit_costs(checkpoint, fever_like(size.examples, 500), size)
        dispatch, storing = dispatch_seconds(checkpoint, fever_like(10, 500), size.dispatched, Path(directory))

    figures: dict[str, float] = {}
    table = Table(
        "grid", "trials", "workers", "utilisation", "makespan", "lower bound", "in order", "ratio", "with the rest",
        "decompositions"
    )  # fmt: skip
    for name, grid in GRIDS.items():
        units = grid_units(grid)
        for workers in WORKERS:
            ours = simulate(units, workers, TrialQueue(units, workers=workers))
            in_order = simulate(units, workers, InOrder(units))
            assert ours.trials == in_order.trials == sorted(trial.key for unit in units for trial in unit.trials)
            rest = simulate(units, workers, TrialQueue(units, workers=workers), besides=fit.besides)
            key = f"{name.partition(',')[0]}_{workers}"
            figures[f"utilisation_{key}"] = ours.utilisation
            figures[f"makespan_over_bound_{key}"] = ours.makespan / lower_bound(units, workers)
            figures[f"in_order_ratio_{key}"] = in_order.makespan / ours.makespan
            figures[f"decompositions_{key}"] = ours.decompositions
            table.add_row(
                name,
                f"{len(ours.trials):,}",
                str(workers),
                f"{ours.utilisation:.1%}",
                f"{ours.makespan:,.0f}",
                f"{lower_bound(units, workers):,.0f}",
                f"{in_order.makespan:,.0f}",
                f"{in_order.makespan / ours.makespan:.1f}",
                f"{rest.utilisation:.1%}",
                f"{ours.decompositions:.2f}",
            )
        table.add_section()
    show(
        f"Measured on one worker, {size.layers} blocks, {size.hidden} wide: {1e3 * fit.seconds_per_block:.1f} ms a "
        f"block, {fit.besides:.2f} blocks' worth besides (edit, head, figures); the line through them explains "
        f"{fit.explained:.1%} of the variance over layers.",
        "Makespans are in blocks over all examples; the bound is no schedule's, but below each. Decompositions are "
        "those of a matrix, where each worker is on a machine of its own and machines share no cache.",
        table,
        few_trials_note(),
        f"Ray, {size.dispatched} trials on one worker: {1e3 * dispatch:.2f} ms from one trial to the next (median), "
        f"{1e3 * storing:.2f} ms where each result is stored as well.",
    )
    return {
        **figures,
        "cost_model_explained": fit.explained,
        "besides_blocks": fit.besides,
        "dispatch_ms": 1e3 * dispatch,
        "dispatch_storing_ms": 1e3 * storing,
    }


class Queue(Protocol):
    def next(self, worker: Hashable) -> Trial | None: ...


class InOrder:
    """Hands out trials as they were asked for: τ, ℓ, ρ."""

    def __init__(self, units: Iterable[WorkUnit]) -> None:
        trials = [trial for unit in units for trial in unit.trials]
        self._trials = sorted(trials, key=lambda trial: [(e.matrix, -e.rho) for e in trial.edits], reverse=True)

    def next(self, worker: Hashable) -> Trial | None:
        return self._trials.pop() if self._trials else None


@dataclass
class Simulated:
    makespan: float = 0.0
    utilisation: float = 0.0
    decompositions: float = 0.0
    """Workers that edit a matrix, mean over matrices."""
    trials: list[str] = field(default_factory=list)


def simulate(units: Sequence[WorkUnit], workers: int, queue: Queue, besides: float = 0.0) -> Simulated:
    """Runs a sweep by its costs, in the manner of the Ray executor; `besides` is what a trial takes on top."""
    unit_of = {trial: unit for unit in units for trial in unit.trials}
    idle = list(range(workers))
    heights = dict.fromkeys(idle, 0.0)
    running: list[tuple[float, int]] = []  # when, and which worker
    done = Simulated()
    busy = 0.0
    edited: set[tuple[int, Matrix]] = set()
    while True:
        while idle:
            trial = queue.next(idle[-1])
            if trial is None:
                break
            worker, unit = idle.pop(), unit_of[trial]
            entry = unit.entry_cost - (heights[worker] if heights[worker] <= unit.entry_cost else 0.0)
            heights[worker] = unit.entry_cost
            cost = entry + unit.trial_cost + besides
            heapq.heappush(running, (done.makespan + cost, worker))
            busy += cost
            done.trials.append(trial.key)
            edited |= {(worker, edit.matrix) for edit in trial.edits}
        if not running:
            break
        done.makespan, worker = heapq.heappop(running)
        idle.append(worker)
    done.trials.sort()
    done.utilisation = busy / (workers * done.makespan)
    done.decompositions = len(edited) / len({matrix for _, matrix in edited})
    return done


def lower_bound(units: Sequence[WorkUnit], workers: int) -> float:
    """All trials shared out evenly among workers that enter at the lowest layer, but no less than one trial takes."""
    work = sum(unit.trial_cost * len(unit.trials) for unit in units)
    entry = min(unit.entry_cost for unit in units if not unit.trials[0].untouched)
    return max(work / workers + entry * (workers - 1) / workers, *(u.entry_cost + u.trial_cost for u in units))


def few_trials_note() -> str:
    """Why a small grid leaves some of many workers idle."""
    notes = []
    for name, grid in GRIDS.items():
        trials = 1 + len(grid.edited) * len(grid.taus) * grid.rhos
        if trials < max(WORKERS):
            notes.append(
                f"{name} has {trials} trials: {max(WORKERS)} workers cannot be busy above "
                f"{trials / max(WORKERS):.1%}, as a trial is not shared."
            )
    return " ".join(notes)


def grid_units(grid: Grid) -> list[WorkUnit]:
    """The work units of a grid, costs in blocks."""
    trials = [
        Trial(model=MODEL, edits=(Edit(matrix=Matrix(tau, layer), rho=rho),), evaluation=EVALUATION)
        for tau in grid.taus
        for layer in grid.edited
        for rho in RHOS[: grid.rhos]
    ]
    units = work_units([Trial(model=MODEL, edits=(), evaluation=EVALUATION), *trials])
    costed = []
    for unit in units:
        below = 0 if unit.trials[0].untouched else unit.trials[0].edits[0].matrix.layer
        costed.append(WorkUnit(unit.trials, trial_cost=float(grid.layers - below), entry_cost=float(below)))
    return costed


@dataclass(frozen=True)
class Fit:
    """Seconds of a trial = (blocks from the edit up + `besides`) x `seconds_per_block`."""

    seconds_per_block: float
    besides: float
    explained: float
    """Share of the variance over layers."""


def fit_costs(checkpoint: Checkpoint, task: Task, size: Size) -> Fit:
    """Measures trials that find their states and factors ready, in every layer of a model."""
    torch.set_num_threads(1)
    worker = Worker([Workload(checkpoint=checkpoint, task=task)])
    evaluation = Evaluation(dataset=task.name, revision=task.revision, split="test")
    blocks, seconds = [], []
    for layer in range(size.layers):
        edits = [Edit(matrix=Matrix("fc_in", layer), rho=rho) for rho in RHOS[: size.repeats + 1]]
        trials = [Trial(model=checkpoint.identity, edits=(edit,), evaluation=evaluation) for edit in edits]
        _, *found = worker.run(trials)  # the first one makes states and factors
        blocks.append(size.layers - layer)
        seconds.append(min(result.finished_at - result.started_at for result in found))
    slope, intercept = np.polyfit(blocks, seconds, 1)
    rest = np.array(seconds) - slope * np.array(blocks) - intercept
    return Fit(float(slope), max(0.0, float(intercept / slope)), float(1 - rest.var() / np.var(seconds)))


def dispatch_seconds(checkpoint: Checkpoint, task: Task, count: int, directory: Path) -> tuple[float, float]:
    """Median seconds between two trials of one worker on Ray, and the same where every result is stored."""
    evaluation = Evaluation(dataset=task.name, revision=task.revision, split="val", limit=1, seed=0)
    store = ParquetStore(directory / "store")
    executor = RayExecutor(
        [Workload(checkpoint=checkpoint, task=task)], ClusterSpec(workers=1), CacheSpec(dir=str(directory))
    )
    keeping: list[Callable[[TrialResult], None]] = [lambda result: None, lambda r: store.write(r, "benchmark", "{}")]
    gaps = []
    try:
        for place, keep in enumerate(keeping):
            trials = [
                Trial(
                    model=checkpoint.identity,
                    edits=(Edit(matrix=Matrix("fc_in", checkpoint.num_layers - 1), rho=(number + 1) / 1000),),
                    evaluation=evaluation,
                )
                for number in range(place * count, (place + 1) * count + 1)
            ]
            results = []
            for result in executor.run(work_units(trials), lambda work: True):
                assert result.ok, result.error
                keep(result)
                results.append(result)
            assert [result.trial for result in results] == trials
            gaps.append(median(b.started_at - a.finished_at for a, b in itertools.pairwise(results)))
    finally:
        executor.close()
    return gaps[0], gaps[1]


if __name__ == "__main__":
    run(measure, full=FULL, small=SMALL, description=__doc__)
