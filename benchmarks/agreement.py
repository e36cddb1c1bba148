"""Decisions of the engine against one example at a time, in float32, bfloat16 and float16, on the embedded model.

The engine batches, packs and replays; the other side calls the model plainly on one prompt after the other, in the same
dtype, untouched and edited. Beside it: how many decisions of a dtype are those of float32.
"""

from __future__ import annotations

import argparse
import json
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.load import load_model, load_tokenizer
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import AskedModel, Example, Task
from laser_sweep.engine.tasks.registry import load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.trial import Edit, Evaluation, Matrix, Trial

DTYPES: tuple[Literal["float32", "bfloat16", "float16"], ...] = ("float32", "bfloat16", "float16")
EDITS = (
    (),
    (Edit(matrix=Matrix("fc_in", 1), rho=0.01),),
    (Edit(matrix=Matrix("fc_in", 1), rho=0.05),),
    (Edit(matrix=Matrix("fc_out", 0), rho=0.2),),
)
Answers = npt.NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a size for tests")
    limit = 40 if parser.parse_args().small else None
    table = Table("dtype", "decisions", "as one at a time, %", "largest margin of the others", "as float32, %")
    figures: dict[str, float] = {}
    in_float32: list[Answers] = []
    for dtype in DTYPES:
        checkpoint = find_checkpoint(ModelSpec(name="demo", path="package://demo/assets", dtype=dtype))
        dataset = DatasetSpec(name="demo", format="prompt_answer", path="package://demo/assets/examples.parquet")
        task = load_task(dataset, AskedModel("causal", lambda checkpoint=checkpoint: load_tokenizer(checkpoint)))
        ours = by_engine(checkpoint, task, limit)
        alone = [one_at_a_time(checkpoint, edits, task.split("val", limit, 0)) for edits in EDITS]
        in_float32 = in_float32 or ours
        same = np.concatenate([mine == theirs for mine, (theirs, _) in zip(ours, alone, strict=True)])
        margins = np.concatenate([margin for _, margin in alone])
        as_float32 = np.mean(np.concatenate(ours) == np.concatenate(in_float32))
        figures[f"{dtype}_agreement"] = float(same.mean())
        figures[f"{dtype}_as_float32"] = float(as_float32)
        margin = f"{margins[~same].max():.2g}" if not same.all() else "none differs"
        table.add_row(dtype, f"{len(same):,}", f"{100 * same.mean():.3f}", margin, f"{100 * as_float32:.2f}")
    Console(width=120).print(table)
    print(json.dumps(figures))


def by_engine(checkpoint: Checkpoint, task: Task, limit: int | None) -> list[Answers]:
    """The token that the engine finds most probable for each example, as its text's place in the vocabulary."""
    evaluation = Evaluation(
        dataset=task.name, revision=task.revision, split="val", limit=limit, seed=None if limit is None else 0
    )
    vocabulary = load_tokenizer(checkpoint).get_vocab()
    trials = [Trial(model=checkpoint.identity, edits=edits, evaluation=evaluation) for edits in EDITS]
    found = []
    for result in Worker([Workload(checkpoint=checkpoint, task=task)]).run(trials):
        assert result.predictions is not None, result.error
        found.append(np.array([vocabulary[text] for text in result.predictions.prediction]))
    return found


@torch.inference_mode()
def one_at_a_time(
    checkpoint: Checkpoint, edits: tuple[Edit, ...], examples: tuple[Example, ...]
) -> tuple[Answers, npt.NDArray[np.float64]]:
    """The most probable token of each example, and how far it is ahead of the next, as a logit."""
    model, tokenizer = load_model(checkpoint, torch.device("cpu")), load_tokenizer(checkpoint)
    answers, margins = [], []
    with Editor(find_layout(model)).applied(edits):
        for example in examples:
            logits = model(**tokenizer(example.prompt, return_tensors="pt")).logits[0, -1].float()
            best = logits.topk(2)
            answers.append(int(best.indices[0]))
            margins.append(float(best.values[0] - best.values[1]))
    return np.array(answers), np.array(margins)


if __name__ == "__main__":
    main()
