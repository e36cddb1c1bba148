"""Runs many small trials in one worker and prints, as JSON, what the process holds on the way.

`python soak.py TRIALS EVERY DIR`: after each EVERY trials the resident memory in bytes, the number of open files, and a
hash over all bits of the model; DIR is for the cache of decompositions.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.models.checkpoint import find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import AskedModel
from laser_sweep.engine.tasks.registry import load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.trial import Edit, Evaluation, Matrix, Option, Split, Trial

TAUS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out")
SPLITS: tuple[Split, ...] = ("val", "test")
BLOCKS: dict[str, Option] = {"clusters": 4, "partition": "consecutive"}
METHODS: tuple[tuple[str, dict[str, Option]], ...] = (
    ("laser", {}),
    ("removed", {}),
    ("prune", {}),
    ("randomized", {"power_iterations": 2, "seed": 0}),
    ("clustered", {**BLOCKS, "allocation": "fraction"}),
    ("clustered", {**BLOCKS, "allocation": "pooled"}),
)


def trials(model: Any, task: Any) -> Iterator[Trial]:
    """Distinct trials without end: all matrices, methods and both splits over and over, each round with another ρ."""
    for number in itertools.count(1):
        rho = (number * 0.618034) % 1
        for tau, layer, (method, options), split in itertools.product(TAUS, (0, 1), METHODS, SPLITS):
            made = Edit(matrix=Matrix(tau, layer), rho=rho, method=method, options=tuple(sorted(options.items())))
            evaluation = Evaluation(dataset=task.name, revision=task.revision, split=split, limit=4, seed=0)
            yield Trial(model=model, edits=(made,), evaluation=evaluation)


def held() -> dict[str, int]:
    gc.collect()
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return {"bytes": pages * resource.getpagesize(), "files": len(os.listdir("/proc/self/fd"))}


def bits(model: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def main(count: int, every: int, directory: str) -> None:
    models: list[PreTrainedModel] = []
    from_pretrained = AutoModelForCausalLM.from_pretrained

    def remembering(*arguments: Any, **options: Any) -> Any:
        loaded = from_pretrained(*arguments, **options)
        models.append(loaded[0])
        return loaded

    AutoModelForCausalLM.from_pretrained = remembering
    checkpoint = find_checkpoint(ModelSpec(name="demo", path="package://demo/assets"))
    spec = DatasetSpec(name="demo", format="prompt_answer", path="package://demo/assets/examples.parquet")
    task = load_task(spec, AskedModel("causal", lambda: None))  # type: ignore[arg-type,return-value]
    workload = Workload(checkpoint=checkpoint, task=task)
    worker = Worker([workload], device="cpu", cache=CacheSpec(dir=directory, factors_gb=1))
    untouched = Evaluation(dataset=task.name, revision=task.revision, split="val", limit=4, seed=0)
    list(worker.run([Trial(model=checkpoint.identity, edits=(), evaluation=untouched)]))
    figures: dict[str, Any] = {"loads": [], "bits": [bits(models[0])], "held": {}, "failed": []}
    started = time.perf_counter()
    for number, trial in enumerate(itertools.islice(trials(checkpoint.identity, task), count), 1):
        (result,) = worker.run([trial])
        if not result.ok:
            figures["failed"].append(f"{trial.describe()}: {result.error}")
        if number % every == 0:
            figures["held"][number] = held()
            figures["bits"].append(bits(models[0]))
    figures["loads"] = len(models)
    figures["seconds"] = time.perf_counter() - started
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
