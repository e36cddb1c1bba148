from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from laser_sweep.engine.models.checkpoint import find_checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.load import load_skeleton
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.errors import RequestError
from laser_sweep.trial import Matrix

BuildModel = Callable[..., PreTrainedModel]

PATHS = {
    "gptj": {
        "q_proj": "transformer.h.{}.attn.q_proj",
        "k_proj": "transformer.h.{}.attn.k_proj",
        "v_proj": "transformer.h.{}.attn.v_proj",
        "out_proj": "transformer.h.{}.attn.out_proj",
        "fc_in": "transformer.h.{}.mlp.fc_in",
        "fc_out": "transformer.h.{}.mlp.fc_out",
    },
    "llama": {
        "q_proj": "model.layers.{}.self_attn.q_proj",
        "k_proj": "model.layers.{}.self_attn.k_proj",
        "v_proj": "model.layers.{}.self_attn.v_proj",
        "out_proj": "model.layers.{}.self_attn.o_proj",
        "fc_in": "model.layers.{}.mlp.gate_proj",
        "fc_up": "model.layers.{}.mlp.up_proj",
        "fc_out": "model.layers.{}.mlp.down_proj",
    },
    "gpt2": {
        "out_proj": "transformer.h.{}.attn.c_proj",
        "fc_in": "transformer.h.{}.mlp.c_fc",
        "fc_out": "transformer.h.{}.mlp.c_proj",
    },
    "roberta": {
        "q_proj": "roberta.encoder.layer.{}.attention.self.query",
        "k_proj": "roberta.encoder.layer.{}.attention.self.key",
        "v_proj": "roberta.encoder.layer.{}.attention.self.value",
        "out_proj": "roberta.encoder.layer.{}.attention.output.dense",
        "fc_in": "roberta.encoder.layer.{}.intermediate.dense",
        "fc_out": "roberta.encoder.layer.{}.output.dense",
    },
    "opt": {
        "q_proj": "model.decoder.layers.{}.self_attn.q_proj",
        "k_proj": "model.decoder.layers.{}.self_attn.k_proj",
        "v_proj": "model.decoder.layers.{}.self_attn.v_proj",
        "out_proj": "model.decoder.layers.{}.self_attn.out_proj",
        "fc_in": "model.decoder.layers.{}.fc1",
        "fc_out": "model.decoder.layers.{}.fc2",
    },
    "phi": {
        "q_proj": "model.layers.{}.self_attn.q_proj",
        "k_proj": "model.layers.{}.self_attn.k_proj",
        "v_proj": "model.layers.{}.self_attn.v_proj",
        "out_proj": "model.layers.{}.self_attn.dense",
        "fc_in": "model.layers.{}.mlp.fc1",
        "fc_out": "model.layers.{}.mlp.fc2",
    },
    "gpt_neox": {
        "out_proj": "gpt_neox.layers.{}.attention.dense",
        "fc_in": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
        "fc_out": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    },
}
"""Where the matrices stand: the published code's table (GPT-J, Llama, RoBERTa), and the same roles elsewhere."""
LAYERS = {"gptj": 3, "llama": 3, "gpt2": 3}


@pytest.mark.parametrize("architecture", PATHS)
def test_every_matrix_of_every_block_is_found_where_it_stands(architecture: str, build_model: BuildModel) -> None:
    model = build_model(architecture)
    layout = find_layout(model)
    layers = LAYERS.get(architecture, 2)
    assert layout.num_layers == layers
    assert layout.taus == tuple(PATHS[architecture])
    found = {matrix: weight.parameter for matrix, weight in layout.weights.items()}
    assert found.keys() == {Matrix(tau, layer) for tau in PATHS[architecture] for layer in range(layers)}
    for matrix, parameter in found.items():
        assert parameter is model.get_submodule(PATHS[architecture][matrix.tau].format(matrix.layer)).weight


@pytest.mark.parametrize("architecture", PATHS)
def test_a_view_maps_inputs_to_outputs_like_its_module(architecture: str, build_model: BuildModel) -> None:
    model = build_model(architecture)
    layout = find_layout(model)
    for matrix, weight in layout.weights.items():
        module = model.get_submodule(PATHS[architecture][matrix.tau].format(matrix.layer))
        rows, columns = layout.shape(matrix)
        inputs = torch.randn(4, columns, generator=torch.Generator().manual_seed(0))
        bias = torch.zeros(rows) if module.bias is None else module.bias
        torch.testing.assert_close(inputs @ weight.view().T + bias, module(inputs), rtol=1e-5, atol=1e-5)


def test_shapes_are_out_by_in_also_where_weights_are_stored_the_other_way(build_model: BuildModel) -> None:
    gpt2, gptj = (find_layout(build_model(name)) for name in ("gpt2", "gptj"))
    for layout in (gpt2, gptj):
        assert layout.shape(Matrix("fc_in", 0)) == (128, 32)
        assert layout.shape(Matrix("fc_out", 0)) == (32, 128)
    assert find_layout(build_model("llama")).shape(Matrix("k_proj", 0)) == (16, 32)  # two of four heads


@pytest.mark.parametrize("architecture", ["gptj", "gpt2"])
def test_writing_to_a_view_edits_the_model(architecture: str, build_model: BuildModel) -> None:
    model = build_model(architecture)
    find_layout(model).weights[Matrix("fc_in", 1)].view()[5, 2] = 42.0
    module = model.get_submodule(PATHS[architecture]["fc_in"].format(1))
    assert module.weight[(2, 5) if isinstance(module, Conv1D) else (5, 2)] == 42.0


@pytest.mark.parametrize("architecture", PATHS)
def test_the_skeleton_has_the_shapes_of_the_model_and_no_weights(
    architecture: str, build_model: BuildModel, save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    model = build_model(architecture)
    save_checkpoint(model, tmp_path)
    skeleton = load_skeleton(find_checkpoint(ModelSpec(name=architecture, path=str(tmp_path))))
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    planned, real = find_layout(skeleton), find_layout(model)
    assert planned.num_layers == real.num_layers
    assert {m: planned.shape(m) for m in planned.weights} == {m: real.shape(m) for m in real.weights}


@pytest.mark.parametrize("first", [True, False])
def test_the_blocks_are_the_longest_list_whatever_other_lists_there_are(first: bool, build_model: BuildModel) -> None:
    model = build_model("gptj")
    other = nn.ModuleList(nn.ModuleDict({"fc_in": nn.Linear(4, 4)}) for _ in range(2))
    modules = dict(model.named_children())
    for name in modules:
        delattr(model, name)
    for name, module in ({"other": other} | modules if first else modules | {"other": other}).items():
        model.add_module(name, module)
    layout = find_layout(model)
    assert layout.num_layers == 3
    assert layout.shape(Matrix("fc_in", 0)) == (128, 32)


def test_a_model_without_blocks_is_refused(build_model: BuildModel) -> None:
    with pytest.raises(RequestError, match="LlamaForCausalLM has no list of blocks"):
        find_layout(build_model("llama", num_hidden_layers=0))


def test_a_list_of_blocks_without_linear_maps_that_can_be_named_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.model.layers = nn.ModuleList(nn.Sequential(nn.Linear(32, 32)) for _ in range(3))
    with pytest.raises(RequestError, match="LlamaForCausalLM has no list of blocks"):
        find_layout(model)


def test_fused_projections_and_the_heads_of_the_model_are_never_named(build_model: BuildModel) -> None:
    model = build_model("gpt2")
    parameters = {id(weight.parameter) for weight in find_layout(model).weights.values()}
    assert id(model.lm_head.weight) not in parameters
    assert id(model.transformer.h[0].attn.c_attn.weight) not in parameters
