"""Editing in place against editing a copy: apply one edit and take it back, or copy the whole model and edit that.

Both sides use the same kept decomposition, so what differs is the copy. The edited weights are equal bit for bit.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from statistics import median

import torch
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.command import Figures, run, show
from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.editing.factor import factorise
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.trial import Edit, Matrix, rank_of

RHO = 0.1


@dataclass(frozen=True)
class Size:
    layers: int
    hidden: int
    vocabulary: int
    repeats: int


FULL = Size(layers=12, hidden=512, vocabulary=32_000, repeats=15)
SMALL = Size(layers=2, hidden=64, vocabulary=100, repeats=2)


def measure(size: Size) -> Figures:
    """Seconds of both sides for one matrix of a Llama."""
    torch.set_num_threads(1)  # what a worker has by default
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.hidden,
            intermediate_size=size.hidden * 43 // 16,
            num_hidden_layers=size.layers,
            num_attention_heads=size.hidden // 64,
        )
    ).requires_grad_(False)
    matrix = Matrix("fc_in", size.layers - 1)
    weight = find_layout(model).weights[matrix]
    name = f"model.layers.{matrix.layer}.mlp.gate_proj.weight"
    original = weight.read().clone()
    factors = factorise(original)

    editor = Editor(find_layout(model))
    edits = (Edit(matrix=matrix, rho=RHO),)
    with editor.applied(edits):  # decomposes, and takes the checksum that later edits are held against
        in_place = weight.read().clone()
    assert torch.equal(weight.read(), original)

    ours, theirs = [], []
    for _ in range(size.repeats):
        started = time.perf_counter()
        with editor.applied(edits):
            pass
        ours.append(time.perf_counter() - started)

        started = time.perf_counter()
        edited = copy.deepcopy(model)
        target = edited.get_parameter(name)
        target.copy_(factors.truncate(target, rank_of(RHO, *target.shape)))
        theirs.append(time.perf_counter() - started)
        assert torch.equal(target, in_place)
        del edited, target

    table = Table("one edit", "in place and back, ms", "on a copy, ms", "ratio")
    shape = "x".join(map(str, weight.shape))
    table.add_row(
        f"{matrix}, {shape}",
        f"{1e3 * median(ours):.2f}",
        f"{1e3 * median(theirs):.1f}",
        f"{median(theirs) / median(ours):.1f}",
    )
    show(
        f"{model.num_parameters() / 1e6:.0f} million parameters in float32, rho={RHO}, one thread; "
        f"medians of {size.repeats}. In place counts keeping the original, putting it back, and proving it.",
        table,
    )
    return {
        "edit_ms": 1e3 * median(ours),
        "copy_ms": 1e3 * median(theirs),
        "edit_ratio": median(theirs) / median(ours),
    }


if __name__ == "__main__":
    run(measure, full=FULL, small=SMALL, description=__doc__)
