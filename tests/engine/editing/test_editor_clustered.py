"""Edits in blocks of rows, in place in a model."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from laser_sweep.engine.editing.cache import FactorCache
from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.trial import Edit, Matrix

BuildModel = Callable[..., PreTrainedModel]
Bits = Callable[[torch.Tensor], torch.Tensor]
Truncation = Callable[[torch.Tensor, int], torch.Tensor]

GIB = 1 << 30
ALLOCATIONS = ("fraction", "equal_memory", "pooled")


def clustered(
    tau: str, layer: int, rho: float, clusters: int, allocation: str = "fraction", partition: str = "consecutive"
) -> Edit:
    options = (("allocation", allocation), ("clusters", clusters), ("partition", partition), ("seed", 0))
    return Edit(matrix=Matrix(tau, layer), rho=rho, method="clustered", options=options)


def laser(tau: str, layer: int, rho: float) -> Edit:
    return Edit(matrix=Matrix(tau, layer), rho=rho)


@pytest.fixture
def decompositions(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes that torch.linalg.eigh was given."""
    shapes: list[torch.Size] = []
    eigh = torch.linalg.eigh

    def counting(matrix: torch.Tensor) -> object:
        shapes.append(matrix.shape)
        return eigh(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", counting)
    return shapes


# Where each architecture keeps a matrix: the parameter, and the view of it that is (outputs, inputs).
PLACES: dict[str, tuple[str, str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "gptj": ("fc_in", "transformer.h.1.mlp.fc_in.weight", lambda weight: weight),
    "gpt2": ("fc_in", "transformer.h.1.mlp.c_fc.weight", lambda weight: weight.T),  # Conv1D
    "bloom": ("v_proj", "transformer.h.1.self_attention.query_key_value.weight", lambda weight: by_head(weight)),
    "mixtral": ("fc_up.2", "model.layers.1.mlp.experts.gate_up_proj", lambda weight: weight[2, 48:]),
}


def by_head(weight: torch.Tensor) -> torch.Tensor:
    """The values of four heads of 8, each after its queries and keys."""
    return weight.view(4, 3, 8, 32)[:, 2].reshape(32, 32)


@pytest.mark.parametrize("architecture", PLACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("partition", ["consecutive", "subspaces"])
def test_inside_the_block_every_cluster_of_rows_is_its_truncated_svd_and_then_all_bits_are_back(
    architecture: str,
    dtype: torch.dtype,
    partition: str,
    build_model: BuildModel,
    bits: Bits,
    svd_truncation: Truncation,
) -> None:
    tau, path, view = PLACES[architecture]
    model = build_model(architecture, dtype=dtype)
    parameter = model.get_parameter(path)
    original, storage = view(parameter).clone(), parameter.data_ptr()
    before = {name: bits(each) for name, each in model.named_parameters()}
    edit = clustered(tau, 1, 0.5, 3, partition=partition)
    with Editor(find_layout(model)).applied([edit]) as applied:
        inside = view(parameter).clone()
        during = {name: bits(each) for name, each in model.named_parameters()}
    [made] = applied.footprints
    rows = len(original)
    if partition == "consecutive":
        assert made.row_clusters is None
        labels = np.sort(np.arange(rows) % 3)  # the first blocks are the longer ones
    else:
        assert made.row_clusters is not None
        labels = made.row_clusters
    rank = parameters = 0
    for cluster in range(3):
        places = np.flatnonzero(labels == cluster).tolist()
        kept = int(0.5 * min(len(places), original.shape[1]))
        tolerance = 0.02 if dtype.itemsize == 2 else 1e-5
        expected = svd_truncation(original[places], kept)
        torch.testing.assert_close(inside[places].double(), expected, rtol=tolerance, atol=tolerance)
        rank += kept
        parameters += kept * (len(places) + original.shape[1])
    assert made.rank == rank
    assert made.parameters == min(parameters + (rows if partition == "subspaces" else 0), original.numel())
    assert (inside.double() - original.double()).abs().max() > 0.1
    assert [name for name in before if not torch.equal(during[name], before[name])] == [path]
    assert all(torch.equal(bits(each), before[name]) for name, each in model.named_parameters())
    assert parameter.data_ptr() == storage


def test_all_rho_and_allocations_of_a_number_of_blocks_cost_one_decomposition_of_each_block(
    build_model: BuildModel, decompositions: list[torch.Size]
) -> None:
    """GPT-J's fc_in is 128 x 32 here."""
    editor = Editor(find_layout(build_model("gptj")))
    for rho in (0.1, 0.25, 0.5, 0.9):
        for allocation in ALLOCATIONS:
            with editor.applied([clustered("fc_in", 0, rho, 8, allocation)]) as applied:
                pass
    assert decompositions == [(16, 16)] * 8
    assert applied.seconds_factor < applied.seconds_edit
    with editor.applied([clustered("fc_in", 0, 0.1, 4)]):
        pass
    assert decompositions == [(16, 16)] * 8 + [(32, 32)] * 4


def test_one_block_shares_its_decomposition_with_laser_and_whoever_asks_for_the_factors(
    build_model: BuildModel, decompositions: list[torch.Size]
) -> None:
    editor = Editor(find_layout(build_model("gptj")))
    whole = editor.factors(Matrix("fc_in", 0))
    for edit in (clustered("fc_in", 0, 0.1, 1), laser("fc_in", 0, 0.1), clustered("fc_in", 0, 0.1, 1, "pooled")):
        with editor.applied([edit]):
            pass
    assert editor.factors(Matrix("fc_in", 0)) is whole
    assert decompositions == [(32, 32)]


def test_only_the_last_used_numbers_of_blocks_are_kept(
    build_model: BuildModel, decompositions: list[torch.Size]
) -> None:
    editor = Editor(find_layout(build_model("gptj")), cached_matrices=2)
    for clusters in (1, 2, 1, 4, 1, 2):  # 4 pushes 2 out, which was used less recently than 1
        with editor.applied([clustered("fc_in", 0, 0.5, clusters)]):
            pass
    assert len(decompositions) == 1 + 2 + 4 + 2


def _edit_all(model: PreTrainedModel, directory: Path) -> list[torch.Tensor]:
    """The edited weights."""
    editor = Editor(find_layout(model), cache=FactorCache(directory, GIB))
    found = []
    for rho in (0.1, 0.5):
        for allocation in ALLOCATIONS:
            with editor.applied([clustered("fc_in", 0, rho, 3, allocation)]):
                found.append(model.transformer.h[0].mlp.fc_in.weight.clone())
    return found


def _edit_without_decomposing(model: PreTrainedModel, directory: Path) -> None:
    torch.set_num_threads(1)  # as a forked process must
    torch.linalg.eigh = None  # type: ignore[assignment]
    _edit_all(model, directory)


def test_another_editor_or_process_finds_the_factors_of_blocks_on_disk(
    build_model: BuildModel, decompositions: list[torch.Size], tmp_path: Path
) -> None:
    model = build_model("gptj")
    first = _edit_all(model, tmp_path)
    assert len(decompositions) == 3
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    again = _edit_all(model, tmp_path)
    assert len(decompositions) == 3
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    process = multiprocessing.get_context("fork").Process(target=_edit_without_decomposing, args=(model, tmp_path))
    process.start()
    process.join(60)
    assert process.exitcode == 0


def test_a_block_is_known_on_disk_by_what_is_in_it(
    build_model: BuildModel, decompositions: list[torch.Size], tmp_path: Path
) -> None:
    """The second half of layer 0 is the whole of another matrix, and only the first half of layer 1 is new."""
    model = build_model("gptj")
    halves = model.transformer.h[0].mlp.fc_in.weight.tensor_split(2)
    model.transformer.h[1].mlp.fc_in.weight[64:] = halves[0]
    editor = Editor(find_layout(model), cache=FactorCache(tmp_path, GIB))
    for layer, made in ((0, 2), (1, 3)):
        with editor.applied([clustered("fc_in", layer, 0.5, 2)]):
            pass
        assert len(decompositions) == made


def test_clusters_of_rows_are_not_kept_on_disk(build_model: BuildModel, tmp_path: Path) -> None:
    editor = Editor(find_layout(build_model("gptj")), cache=FactorCache(tmp_path, GIB))
    with editor.applied([clustered("fc_in", 0, 0.1, 3, partition="subspaces")]) as applied:
        pass
    assert applied.footprints[0].row_clusters is not None
    assert list(tmp_path.glob("*.safetensors")) == []


@pytest.mark.parametrize("partition", ["consecutive", "subspaces"])
def test_nothing_is_changed_where_one_matrix_has_fewer_rows_than_blocks(
    partition: str, build_model: BuildModel, bits: Bits
) -> None:
    model = build_model("gptj")
    before = {name: bits(each) for name, each in model.named_parameters()}
    edits = [clustered("fc_in", 0, 0.5, 40, partition=partition), clustered("fc_out", 0, 0.5, 40, partition=partition)]
    with pytest.raises(ValueError, match=r"clusters=40 .* 32 rows"), Editor(find_layout(model)).applied(edits):
        pass
    assert all(torch.equal(bits(each), before[name]) for name, each in model.named_parameters())
