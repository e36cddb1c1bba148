"""What is exported says what the edited model says, for every architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

import laser_sweep.export.quantizer  # noqa: F401
from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.layout import Layout, find_layout
from laser_sweep.engine.models.load import load_model
from laser_sweep.errors import RequestError
from laser_sweep.export.checkpoint import Written
from laser_sweep.export.factored import FactoredLinear
from laser_sweep.trial import Edit, Matrix

from ..engine.conftest import CONFIGS, MASKED_CONFIGS

Save = Callable[..., Checkpoint]
Write = Callable[..., tuple[Path, Written]]
LogProbs = Callable[[PreTrainedModel], torch.Tensor]

CPU = torch.device("cpu")
AUTO = {"causal": AutoModelForCausalLM, "masked": AutoModelForMaskedLM}
EVERY = [("causal", name) for name in CONFIGS] + [("masked", name) for name in MASKED_CONFIGS if name != "albert"]
EXPERTS = ("mixtral", "gpt_oss", "minimax", "llama4", "qwen2_moe")
FUSED = ("gpt2", "gpt_neox", "phi3", "codegen", "bloom", "gpt_bigcode", "falcon_multi_query", "falcon_grouped")
RHO = 0.2


def edits_of(layout: Layout, layer: int, *, experts: bool) -> tuple[Edit, ...]:
    """Every matrix of a layer, experts' too or not."""
    found = [matrix for matrix in layout.weights if matrix.layer == layer and (experts or "." not in matrix.tau)]
    return tuple(Edit(matrix=matrix, rho=RHO) for matrix in found)


def load(family: str, directory: Path) -> PreTrainedModel:
    """What transformers makes of a directory, in which it misses nothing and finds nothing else."""
    loaded, report = AUTO[family].from_pretrained(directory, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return loaded


@pytest.mark.parametrize(("family", "architecture"), EVERY)
def test_a_block_of_edited_matrices_is_exported_as_it_is_and_as_factors(
    family: str, architecture: str, save: Save, write: Write, log_probs: LogProbs
) -> None:
    base = save(architecture, family=family)
    model = load_model(base, CPU)
    layout = find_layout(model)
    untouched = log_probs(model)

    edits = edits_of(layout, 1, experts=True)
    directory, written = write(base, edits, "dense")
    dense = load(family, directory)
    with Editor(layout).applied(edits):
        edited = log_probs(model)
        for name, parameter in dense.named_parameters():
            assert torch.equal(parameter, model.get_parameter(name)), name
    assert torch.equal(log_probs(dense), edited)
    assert (edited - untouched).abs().max() > 0.1
    assert {one.edit for one in written.matrices} == set(edits)
    assert written.bytes_now == written.bytes_before

    edits = edits_of(layout, 1, experts=False)
    directory, written = write(base, edits, "factored")
    factored = load(family, directory)
    with Editor(layout).applied(edits):
        torch.testing.assert_close(log_probs(factored), log_probs(model), rtol=0, atol=1e-5)
        for name in written.maps:
            module = model.get_submodule(name)
            stored = module.weight.T if isinstance(module, Conv1D) else module.weight
            torch.testing.assert_close(factored.get_submodule(name).product(), stored, rtol=0, atol=1e-5)
    modules = {name for name, module in factored.named_modules() if isinstance(module, FactoredLinear)}
    assert modules
    assert modules == set(written.maps)
    for one in written.matrices:
        rows, columns = one.shape
        rank = int(min(rows, columns) * RHO)
        assert (one.rank, one.numbers) == (rank, min(rank * (rows + columns), rows * columns))
    held, dense_ones = (sum(parameter.numel() for parameter in one.parameters()) for one in (factored, model))
    assert dense_ones - held == sum(one.shape[0] * one.shape[1] - one.numbers for one in written.matrices)


@pytest.mark.parametrize(
    ("architecture", "tau"), [(name, "q_proj") for name in FUSED] + [("gpt2", "v_proj"), ("gpt_neox", "k_proj")]
)
def test_of_a_fused_map_the_edited_rows_are_factors_and_the_others_stay_dense(
    tau: str, architecture: str, save: Save, write: Write, log_probs: LogProbs
) -> None:
    base = save(architecture)
    model = load_model(base, CPU)
    layout = find_layout(model)
    edits = (Edit(matrix=Matrix(tau, 0), rho=1.0), Edit(matrix=Matrix(tau, 1), rho=0.1))
    weight = layout.weights[Matrix(tau, 1)]
    directory, written = write(base, edits, "factored")

    loaded = load("causal", directory)

    ((name, shape),) = written.maps.items()  # all of a rank is larger as factors
    module = loaded.get_submodule(name)
    rows, _ = weight.shape
    outputs = weight.parameter.shape[1 if weight.transposed else 0]
    assert [list(block) for block in shape["blocks"]] == [[rows, int(min(weight.shape) * 0.1)]]
    assert module.rest.shape == (outputs - rows, weight.shape[1])
    with Editor(layout).applied(edits):
        torch.testing.assert_close(log_probs(loaded), log_probs(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", EXPERTS)
def test_factors_of_experts_that_are_one_tensor_are_refused(
    architecture: str, save: Save, write: Write, tmp_path: Path
) -> None:
    base = save(architecture)
    with pytest.raises(RequestError, match=r"fc_in\.2\[1\] is one of the experts .*; give --form dense$"):
        write(base, (Edit(matrix=Matrix("fc_in.2", 1), rho=RHO),), "factored")
    assert not any((tmp_path / "export-factored-1").iterdir())
