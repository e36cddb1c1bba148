"""The published way against ours: the same trials on the same examples, trial by trial and as whole sweeps.

Theirs, for every trial: a copy of the model, a randomised factorisation, one example at a time through all blocks, val
and test. Ours: kept factors and states, full batches, search on val, the winner and the untouched model on test.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.published import PublishedWay
from benchmarks.shapes import LLAMA_MLP, fever_like, llama_weight, write_llama
from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.load import load_model, load_tokenizer
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Task
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.trial import Edit, Evaluation, Matrix, Split, Trial, TrialResult

RHOS = (0.01, 0.05, 0.1, 0.2, 0.4)
LATE = 0.4  # the share of the layers, from the top, that the published grids try
SAMPLED = 3  # trials whose test examples the published way is timed on; each costs the same whatever is edited


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    vocabulary: int
    examples: int


FULL = Size(layers=12, hidden=512, vocabulary=32_000, examples=200)
SMALL = Size(layers=3, hidden=64, vocabulary=500, examples=40)


@dataclass(frozen=True)
class Theirs:
    """Figures of the published way: val accuracy and log-loss by edit (None is untouched), and seconds."""

    val: dict[Edit | None, tuple[float, float]]
    correct: dict[Edit | None, list[bool]]
    seconds_edit: dict[Edit | None, float]
    seconds_val: dict[Edit | None, float]
    seconds_per_test_example: float

    def seconds(self, edit: Edit | None, num_test: int) -> float:
        """Seconds of one trial on val, and on `num_test` examples of test.

        Medians over all trials: whatever is edited, the work is the same, but the machine is not always free.
        """
        making = 0.0 if edit is None else float(np.median([s for e, s in self.seconds_edit.items() if e is not None]))
        return making + float(np.median(list(self.seconds_val.values()))) + num_test * self.seconds_per_test_example


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a size for tests")
    size = SMALL if parser.parse_args().small else FULL
    with tempfile.TemporaryDirectory() as directory:
        figures = compare(size, Path(directory))
    print(json.dumps(figures))


def compare(size: Size, directory: Path) -> dict[str, float]:
    """Measures both sides, checks that they agree, prints a table and returns the figures of the last line."""
    write_llama(directory, layers=size.layers, hidden=size.hidden, vocabulary=size.vocabulary)
    checkpoint = find_checkpoint(ModelSpec(name="llama", path=str(directory)))
    task = fever_like(size.examples, size.vocabulary)
    edits = [
        Edit(matrix=Matrix(tau, layer), rho=rho) for layer in range(size.layers) for tau in LLAMA_MLP for rho in RHOS
    ]
    late = [edit for edit in edits if edit.matrix.layer >= round(size.layers * (1 - LATE))]
    num_test = len(task.split("test"))

    def trial(edit: Edit | None, split: Split) -> Trial:
        evaluation = Evaluation(dataset=task.name, revision=task.revision, split=split)
        return Trial(model=checkpoint.identity, edits=() if edit is None else (edit,), evaluation=evaluation)

    def sweep(grid: list[Edit]) -> tuple[float, dict[Edit | None, TrialResult], Edit | None]:
        """Seconds of our whole sweep, the results on val, and the winner."""
        worker = Worker([Workload(checkpoint=checkpoint, task=task)])
        list(worker.run([trial(None, "val")]))  # loads the model, as it is loaded on the other side
        started = time.perf_counter()
        found = {edit: one(worker, trial(edit, "val")) for edit in (None, *grid)}
        winner = best({edit: (r.measured().accuracy, r.measured().log_loss) for edit, r in found.items()})
        one(worker, trial(None, "test"))
        if winner is not None:
            one(worker, trial(winner, "test"))
        return time.perf_counter() - started, found, winner

    late_seconds, late_found, late_winner = sweep(late)
    full_seconds, found, winner = sweep(edits)
    theirs = published(checkpoint, task, edits)
    agree(theirs, found)
    assert winner == best(theirs.val), "both sides choose the same trial"
    assert late_winner == best({edit: theirs.val[edit] for edit in (None, *late)}), "and of the late grid"

    figures: dict[str, float] = {}
    table = Table(
        "grid", "trials", "published, s", "ours, s", "sweep ratio", "published, s/trial", "ours, s/trial", "ratio"
    )
    for name, grid, seconds, results in (
        ("late", late, late_seconds, late_found),
        ("full", edits, full_seconds, found),
    ):
        their_sweep = sum(theirs.seconds(edit, num_test) for edit in (None, *grid))
        their_trial = float(np.mean([theirs.seconds(edit, 0) for edit in grid]))
        our_trial = float(np.mean([sum_seconds(results[edit]) for edit in grid]))
        figures[f"{name}_sweep_ratio"] = round(their_sweep / seconds, 1)
        figures[f"{name}_trial_ratio"] = round(their_trial / our_trial, 1)
        table.add_row(
            name,
            str(len(grid)),
            f"{their_sweep:.1f}",
            f"{seconds:.2f}",
            f"{their_sweep / seconds:.1f}",
            f"{their_trial:.3f}",
            f"{our_trial:.4f}",
            f"{their_trial / our_trial:.1f}",
        )
    console = Console(width=120)
    console.print(
        f"Llama shape: {size.layers} blocks, {size.hidden} wide, {size.vocabulary:,} words; {size.examples} examples, "
        f"{len(task.split('val'))} of them val; {torch.get_num_threads()} threads; model loads not counted.\n"
        f"Published: val measured for all {len(edits) + 1} trials, test for {SAMPLED} of them; medians, scaled."
    )
    console.print(table)
    return figures


def one(worker: Worker, trial: Trial) -> TrialResult:
    return next(worker.run([trial]))


def sum_seconds(result: TrialResult) -> float:
    return result.finished_at - result.started_at


def best(val: dict[Edit | None, tuple[float, float]]) -> Edit | None:
    """The highest accuracy, ties decided by log-loss."""
    return max(val, key=lambda edit: (val[edit][0], -val[edit][1]))


def agree(theirs: Theirs, ours: dict[Edit | None, TrialResult]) -> None:
    """Decisions are the same but for ties within 1e-5, losses within 1e-4."""
    for edit, result in ours.items():
        assert result.predictions is not None
        different = int((result.predictions.correct != np.array(theirs.correct[edit])).sum())
        assert different == 0, (edit, different)
        assert abs(result.measured().log_loss - theirs.val[edit][1]) < 1e-4, edit


def published(checkpoint: Checkpoint, task: Task, edits: list[Edit]) -> Theirs:
    """Runs every trial the published way on val, and the first ones on test."""
    way = PublishedWay(load_model(checkpoint, torch.device("cpu")), load_tokenizer(checkpoint))
    theirs = Theirs({}, {}, {}, {}, 0.0)
    test_seconds = []
    for number, edit in enumerate([None, *edits]):
        edited, theirs.seconds_edit[edit] = way.model, 0.0
        if edit is not None:
            edited, theirs.seconds_edit[edit] = way.edited(llama_weight(edit.matrix), edit.rho)
        answers, theirs.seconds_val[edit] = way.answers(edited, task.split("val"))
        theirs.correct[edit] = [one.correct for one in answers]
        accuracy = float(np.mean(theirs.correct[edit]))
        theirs.val[edit] = accuracy, float(-np.mean([one.gold_log_prob for one in answers]))
        if number < SAMPLED:
            test_seconds.append(way.answers(edited, task.split("test"))[1])
    per_example = float(np.median(test_seconds)) / len(task.split("test"))
    return Theirs(theirs.val, theirs.correct, theirs.seconds_edit, theirs.seconds_val, per_example)


if __name__ == "__main__":
    main()
