"""What LASER removes, on its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.editing.factor import Factors, factorise
from laser_sweep.engine.editing.methods import laser, removed
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.trial import Edit, Matrix

BuildModel = Callable[..., PreTrainedModel]
Bits = Callable[[torch.Tensor], torch.Tensor]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


def edit(rho: float, method: str = "removed") -> Edit:
    return Edit(matrix=Matrix("fc_in", 1), rho=rho, method=method)


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trailing(weight: torch.Tensor, rank: int) -> torch.Tensor:
    """The sum of σ u vᵀ over all directions but the `rank` strongest, float64."""
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    return left[:, rank:] @ torch.diag(values[rank:]) @ right[rank:]


def factors_of(weight: torch.Tensor) -> Callable[[int], list[Factors]]:
    return lambda clusters: [factorise(weight)] * clusters


@each_dtype
@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (24, 24)])
@pytest.mark.parametrize(("rho", "rank"), [(0.01, 0), (0.05, 1), (0.1, 2), (0.5, 12), (0.99, 23)])
def test_it_is_the_directions_that_laser_does_not_keep(
    rho: float, rank: int, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    weight = gaussian(*shape).to(dtype)
    made = removed(weight, edit(rho), factors_of(weight))
    tolerance = min(TOLERANCE[dtype], 1e-5)  # computed in float32 or float64, whatever the dtype of the model
    torch.testing.assert_close(made.weight.double(), trailing(weight, rank), rtol=0, atol=tolerance)
    assert made.footprint.rank == 24 - rank
    assert torch.linalg.matrix_rank(made.weight.double(), rtol=1e-4) == 24 - rank


@given(rho=st.floats(0, 1), rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 99))
def test_it_and_the_part_that_laser_keeps_are_the_whole(rho: float, rows: int, columns: int, seed: int) -> None:
    weight = gaussian(rows, columns, seed)
    kept, taken = (method(weight, edit(rho), factors_of(weight)) for method in (laser, removed))
    torch.testing.assert_close(kept.weight + taken.weight, weight, rtol=0, atol=1e-12)
    assert (kept.weight * taken.weight).sum().abs() < 1e-6  # nothing of the one is in the other
    assert kept.footprint.rank is not None
    assert taken.footprint.rank == min(rows, columns) - kept.footprint.rank


@each_dtype
def test_at_rho_1_nothing_is_left_and_at_rho_0_everything(dtype: torch.dtype) -> None:
    weight = gaussian(9, 7).to(dtype)
    nothing, everything = (removed(weight, edit(rho), factors_of(weight)).weight.to(dtype) for rho in (1.0, 0.0))
    assert torch.equal(nothing, torch.zeros_like(weight))
    assert torch.equal(everything, weight)


@each_dtype
@pytest.mark.parametrize(("architecture", "path"), [("gptj", "fc_in"), ("gpt2", "c_fc")])
def test_a_model_speaks_with_that_part_alone_and_is_bit_for_bit_itself_afterwards(
    architecture: str, path: str, dtype: torch.dtype, build_model: BuildModel, bits: Bits
) -> None:
    model = build_model(architecture, dtype=dtype)
    stored = model.transformer.h[1].mlp.get_submodule(path).weight
    before = {name: bits(parameter) for name, parameter in model.named_parameters()}
    original = stored.clone()
    rank = int(min(original.shape) * 0.1)
    assert rank > 0
    parts = []
    editor = Editor(find_layout(model))
    for method in ("laser", "removed"):
        with editor.applied([edit(0.1, method)]):
            parts.append(stored.clone())
    tolerance = TOLERANCE[dtype] * float(original.abs().max())
    torch.testing.assert_close(parts[1].double(), trailing(original, rank), rtol=0, atol=tolerance)
    torch.testing.assert_close((parts[0].double() + parts[1].double()), original.double(), rtol=0, atol=tolerance)
    after = {name: bits(parameter) for name, parameter in model.named_parameters()}
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_both_parts_cost_one_decomposition(build_model: BuildModel, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: counted.append(matrix.shape) or eigh(matrix))
    editor = Editor(find_layout(build_model("gptj")))
    for method in ("laser", "removed"):
        with editor.applied([edit(0.25, method)]):
            pass
    assert counted == [(32, 32)]
