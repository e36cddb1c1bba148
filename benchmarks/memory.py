"""Peak memory of a worker against what it has to hold: the model, the factors of the largest matrix, the kept states.

One process loads a model, runs trials in every layer with a small budget for states, and is watched all the while.
Counted is its resident memory above what it had with all libraries imported.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.shapes import fever_like, write_llama
from laser_sweep.engine.models.checkpoint import find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.trial import Edit, Evaluation, Matrix, Trial

INTERVAL = 0.005  # seconds between two looks
TAUS = ("q_proj", "fc_in")
ALLOWED = 1.2  # of what the worker has to hold


class Watch:
    """The largest amount of resident memory of this process while it is open, in bytes."""

    def __init__(self) -> None:
        self.peak = resident_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.peak = max(self.peak, resident_bytes())


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell how much memory a process has")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a size for tests")
    small = parser.parse_args().small
    layers, hidden, vocabulary, examples, budget = (2, 64, 500, 20, 0.001) if small else (16, 1024, 32_000, 300, 0.015)
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as directory:
        write_llama(Path(warm), layers=2, hidden=64, vocabulary=500)
        write_llama(Path(directory), layers=layers, hidden=hidden, vocabulary=vocabulary)
        # A process that has written no model itself, and imported what there is to import on a small one.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            fresh.submit(run_trials, warm, 500, 20, 0.001).result()
            peak = fresh.submit(run_trials, directory, vocabulary, examples, budget).result()
        model_bytes = sum(file.stat().st_size for file in Path(directory).glob("*.safetensors"))
    factor_bytes = 4 * hidden * hidden  # the basis of the shorter side, in float32
    held = model_bytes + factor_bytes + budget * 2**30
    table = Table("model, MB", "factors, MB", "states, MB", "held, MB", "peak, MB", "peak / held")
    table.add_row(
        *(f"{value / 2**20:,.0f}" for value in (model_bytes, factor_bytes, budget * 2**30, held, peak)),
        f"{peak / held:.2f}",
    )
    Console(width=120).print(table)
    print(json.dumps({"peak_over_held": round(peak / held, 3), "allowed": ALLOWED}))


def run_trials(directory: str, vocabulary: int, examples: int, budget: float) -> int:
    """Bytes that a worker needed at most."""
    checkpoint = find_checkpoint(ModelSpec(name="llama", path=directory))
    task = fever_like(examples, vocabulary)
    evaluation = Evaluation(dataset=task.name, revision=task.revision, split="val")
    layers = range(0, checkpoint.num_layers or 1, 5)
    edits = [Edit(matrix=Matrix(tau, layer), rho=0.1) for layer in layers for tau in TAUS]
    trials = [
        Trial(model=checkpoint.identity, edits=asked, evaluation=evaluation)
        for asked in ((), *((edit,) for edit in edits))
    ]
    gc.collect()
    before = resident_bytes()
    with Watch() as watch:
        workload = Workload(
            checkpoint=checkpoint, task=task, batch_tokens=512, activation_budget_gb=budget, host_budget_gb=0.0
        )
        assert all(result.ok for result in Worker([workload]).run(trials))
    return watch.peak - before


if __name__ == "__main__":
    main()
