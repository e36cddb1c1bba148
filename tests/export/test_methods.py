"""Edits of every method, alone and several together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

import laser_sweep.export.quantizer  # noqa: F401
from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.load import load_model
from laser_sweep.errors import RequestError
from laser_sweep.export.checkpoint import Written
from laser_sweep.trial import Edit, Matrix, Option

Save = Callable[..., Checkpoint]
Write = Callable[..., tuple[Path, Written]]
LogProbs = Callable[[PreTrainedModel], torch.Tensor]

CONSECUTIVE = {"clusters": 4, "partition": "consecutive", "allocation": "pooled", "seed": 0}
CASES: list[tuple[str, float, dict[str, Option], int | None]] = [
    ("laser", 0.1, {}, 3 * 160),
    ("laser", 0.02, {}, 0),
    ("laser", 1.0, {}, None),
    ("removed", 0.9, {}, 4 * 160),
    ("removed", 1.0, {}, 0),
    ("removed", 0.1, {}, None),
    ("randomized", 0.1, {"seed": 1, "power_iterations": 2}, 3 * 160),
    ("clustered", 0.1, {**CONSECUTIVE, "allocation": "fraction"}, 12 * 64),
    ("clustered", 0.1, CONSECUTIVE, 7 * 64),
    ("clustered", 0.2, {**CONSECUTIVE, "partition": "subspaces"}, None),
    ("zero", 0.0, {}, 0),
    ("prune", 0.1, {}, None),
]
"""Of a 128 x 32 matrix: the numbers that its factors take by hand, None where that is not said here."""


def edit(method: str, rho: float, options: dict[str, Option], layer: int = 1) -> Edit:
    return Edit(matrix=Matrix("fc_in", layer), rho=rho, method=method, options=tuple(sorted(options.items())))


@pytest.mark.parametrize(("method", "rho", "options", "numbers"), CASES)
def test_every_method_is_exported_in_both_forms(
    method: str,
    rho: float,
    options: dict[str, Option],
    numbers: int | None,
    save: Save,
    write: Write,
    log_probs: LogProbs,
) -> None:
    base = save("gptj")
    model = load_model(base, torch.device("cpu"))
    edits = (edit(method, rho, options),)
    dense = AutoModelForCausalLM.from_pretrained(write(base, edits, "dense")[0])
    directory, written = write(base, edits, "factored")
    factored = AutoModelForCausalLM.from_pretrained(directory)
    with Editor(find_layout(model)).applied(edits):
        assert torch.equal(log_probs(dense), log_probs(model))
        torch.testing.assert_close(log_probs(factored), log_probs(model), rtol=0, atol=1e-5)
    (matrix,) = written.matrices
    assert numbers is None or matrix.numbers == numbers
    assert matrix.factored == bool(written.maps) == (method != "prune" and matrix.numbers < 128 * 32)
    if method in ("prune", "removed") and numbers is None:
        assert not written.maps
    if options.get("partition") == "subspaces":
        module = factored.transformer.h[1].mlp.fc_in
        assert module.places is not None
        held = [*module.parameters(), module.places]
        assert sum(tensor.numel() for tensor in held) - len(module.bias) == matrix.numbers


def test_a_composition_of_methods_is_exported_together(save: Save, write: Write, log_probs: LogProbs) -> None:
    base = save("gptj")
    model = load_model(base, torch.device("cpu"))
    edits = (
        edit("clustered", 0.1, CONSECUTIVE, layer=0),
        edit("prune", 0.5, {}, layer=1),
        Edit(matrix=Matrix("fc_out", 1), rho=0.1),
        Edit(matrix=Matrix("v_proj", 2), rho=0.0, method="zero"),
    )
    directory, written = write(base, edits, "factored")
    assert len(written.maps) == 3
    with Editor(find_layout(model)).applied(edits):
        exported = log_probs(AutoModelForCausalLM.from_pretrained(directory))
        torch.testing.assert_close(exported, log_probs(model), rtol=0, atol=1e-5)


def test_a_wider_dtype_than_the_files_have_is_kept(save: Save, write: Write, log_probs: LogProbs) -> None:
    narrow = save("llama", dtype=torch.bfloat16)
    from dataclasses import replace

    base = replace(narrow, identity=replace(narrow.identity, dtype="float32"))
    model = load_model(base, torch.device("cpu"))
    edits = (Edit(matrix=Matrix("fc_out", 1), rho=0.2),)
    for form, atol in (("dense", 0.0), ("factored", 1e-5)):
        exported = AutoModelForCausalLM.from_pretrained(write(base, edits, form)[0])
        assert exported.dtype == torch.float32
        with Editor(find_layout(model)).applied(edits):
            torch.testing.assert_close(log_probs(exported), log_probs(model), rtol=0, atol=atol)


def test_an_edit_that_cannot_be_made_and_a_matrix_that_is_not_there_are_refused(save: Save, write: Write) -> None:
    base = save("gptj")
    with pytest.raises(RequestError, match=r"clustered of fc_in\[1\] cannot be made again: clusters=500 is not"):
        write(base, (edit("clustered", 0.1, {**CONSECUTIVE, "clusters": 500}),), "dense")
    with pytest.raises(RequestError, match=r"GPTJForCausalLM has no fc_up\[0\]"):
        write(base, (Edit(matrix=Matrix("fc_up", 0), rho=0.1),), "dense")
