from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from laser_sweep.engine.models.checkpoint import find_checkpoint
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.models.load import load_skeleton
from laser_sweep.engine.models.spec import ModelSpec, read_roles
from laser_sweep.errors import RequestError
from laser_sweep.trial import Matrix

BuildModel = Callable[..., PreTrainedModel]
Bits = Callable[[torch.Tensor], torch.Tensor]
Places = dict[str, tuple[str, tuple[int, int]]]

SQUARE, HALF, WIDE, NARROW = (32, 32), (16, 32), (48, 32), (32, 48)
EXPERTS = 4


def attention(owner: str, names: str, key_shape: tuple[int, int] = SQUARE) -> Places:
    """Where q, k, v and out stand: four names, or two where q, k and v are fused."""
    *first, out = names.split()
    query, key, value = first if len(first) == 3 else first * 3
    return {
        "q_proj": (f"{owner}.{query}.weight", SQUARE),
        "k_proj": (f"{owner}.{key}.weight", key_shape),
        "v_proj": (f"{owner}.{value}.weight", key_shape),
        "out_proj": (f"{owner}.{out}.weight", SQUARE),
    }


def mlp(owner: str, fc_in: str, fc_out: str, width: int = 48) -> Places:
    return {"fc_in": (f"{owner}.{fc_in}.weight", (width, 32)), "fc_out": (f"{owner}.{fc_out}.weight", (32, width))}


def gated(owner: str, gate: str, up: str) -> Places:
    return {
        "fc_in": (f"{owner}.{gate}.weight", WIDE),
        "fc_up": (f"{owner}.{up}.weight", WIDE),
        "fc_out": (f"{owner}.down_proj.weight", NARROW),
    }


def experts(owner: str) -> Places:
    return {
        f"{tau}.{expert}": (f"{owner}.{name}", shape)
        for tau, name, shape in (
            ("fc_in", "gate_up_proj", WIDE),
            ("fc_up", "gate_up_proj", WIDE),
            ("fc_out", "down_proj", NARROW),
        )
        for expert in range(EXPERTS)
    }


H, LAYER = "transformer.h.{}", "model.layers.{}"
LLAMA = attention(f"{LAYER}.self_attn", "q_proj k_proj v_proj o_proj", HALF)
BERT = "{}.encoder.layer.{{}}"


def bert(name: str) -> Places:
    owner = BERT.format(name)
    return attention(f"{owner}.attention", "self.query self.key self.value output.dense") | mlp(
        owner, "intermediate.dense", "output.dense"
    )


def falcon(key_shape: tuple[int, int]) -> Places:
    return attention(f"{H}.self_attention", "query_key_value dense", key_shape) | mlp(
        f"{H}.mlp", "dense_h_to_4h", "dense_4h_to_h", 128
    )


PLACES: dict[str, Places] = {
    "gptj": attention(f"{H}.attn", "q_proj k_proj v_proj out_proj") | mlp(f"{H}.mlp", "fc_in", "fc_out", 128),
    "llama": LLAMA | gated(f"{LAYER}.mlp", "gate_proj", "up_proj"),
    "gpt2": attention(f"{H}.attn", "c_attn c_proj") | mlp(f"{H}.mlp", "c_fc", "c_proj", 128),
    "roberta": bert("roberta"),
    "bert": bert("bert"),
    "opt": attention("model.decoder.layers.{}.self_attn", "q_proj k_proj v_proj out_proj")
    | mlp("model.decoder.layers.{}", "fc1", "fc2"),
    "phi": attention(f"{LAYER}.self_attn", "q_proj k_proj v_proj dense") | mlp(f"{LAYER}.mlp", "fc1", "fc2"),
    "gpt_neox": attention("gpt_neox.layers.{}.attention", "query_key_value dense")
    | mlp("gpt_neox.layers.{}.mlp", "dense_h_to_4h", "dense_4h_to_h"),
    "mistral": LLAMA | gated(f"{LAYER}.mlp", "gate_proj", "up_proj"),
    "qwen3": {
        "q_proj": (f"{LAYER}.self_attn.q_proj.weight", (64, 32)),  # heads wider than hidden / heads
        "k_proj": (f"{LAYER}.self_attn.k_proj.weight", (32, 32)),
        "v_proj": (f"{LAYER}.self_attn.v_proj.weight", (32, 32)),
        "out_proj": (f"{LAYER}.self_attn.o_proj.weight", (32, 64)),
    }
    | gated(f"{LAYER}.mlp", "gate_proj", "up_proj"),
    "gemma3": LLAMA | gated(f"{LAYER}.mlp", "gate_proj", "up_proj"),
    "phi3": attention(f"{LAYER}.self_attn", "qkv_proj o_proj", HALF)
    | gated(f"{LAYER}.mlp", "gate_up_proj", "gate_up_proj"),
    "falcon_multi_query": falcon((8, 32)),
    "falcon_grouped": falcon(HALF),
    "falcon_per_head": falcon(SQUARE),
    "bloom": falcon(SQUARE),
    "mixtral": LLAMA | experts(f"{LAYER}.mlp.experts"),
    "gpt_oss": LLAMA | experts(f"{LAYER}.mlp.experts"),
}
"""Where the matrices stand, and their (out, in): the published code's table (GPT-J, Llama, RoBERTa), and the same roles
elsewhere."""
LAYERS = {"gptj": 3, "llama": 3, "gpt2": 3}


@pytest.mark.parametrize("architecture", PLACES)
def test_every_matrix_of_every_block_is_found_where_it_stands(architecture: str, build_model: BuildModel) -> None:
    model = build_model(architecture)
    layout = find_layout(model)
    places, layers = PLACES[architecture], LAYERS.get(architecture, 2)
    assert layout.num_layers == layers
    assert layout.taus == tuple(dict.fromkeys(tau.partition(".")[0] for tau in places))
    assert layout.weights.keys() == {Matrix(tau, layer) for tau in places for layer in range(layers)}
    for matrix, weight in layout.weights.items():
        path, shape = places[matrix.tau]
        assert weight.parameter is model.get_parameter(path.format(matrix.layer))
        assert layout.shape(matrix) == weight.shape == weight.read().shape == shape


@pytest.mark.parametrize("architecture", PLACES)
def test_a_matrix_that_fills_its_module_maps_inputs_to_outputs_like_it(
    architecture: str, build_model: BuildModel
) -> None:
    model = build_model(architecture)
    layout = find_layout(model)
    paths = {matrix: PLACES[architecture][matrix.tau][0].format(matrix.layer) for matrix in layout.weights}
    whole = [matrix for matrix, path in paths.items() if list(paths.values()).count(path) == 1]
    assert whole
    for matrix in whole:
        module = model.get_submodule(paths[matrix].removesuffix(".weight"))
        rows, columns = layout.shape(matrix)
        inputs = torch.randn(4, columns, generator=torch.Generator().manual_seed(0))
        bias = torch.zeros(rows) if module.bias is None else module.bias
        outputs = inputs @ layout.weights[matrix].read().T + bias
        torch.testing.assert_close(outputs, module(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", PLACES)
def test_the_skeleton_has_the_layout_of_the_model_and_no_weights(
    architecture: str, build_model: BuildModel, save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    model = build_model(architecture)
    save_checkpoint(model, tmp_path)
    skeleton = load_skeleton(find_checkpoint(ModelSpec(name=architecture, path=str(tmp_path))))
    assert all(parameter.is_meta for parameter in skeleton.parameters())
    planned, real = find_layout(skeleton), find_layout(model)
    assert planned.num_layers == real.num_layers
    assert planned.taus == real.taus
    assert planned.weights.keys() == real.weights.keys()
    for matrix, weight in real.weights.items():
        other = planned.weights[matrix]
        assert planned.shape(matrix) == real.shape(matrix)
        assert (other.transposed, other.expert) == (weight.transposed, weight.expert)
        assert weight.rows is None if other.rows is None else torch.equal(other.rows.cpu(), weight.rows)


MASKED: dict[str, Places] = {
    "roberta": bert("roberta"),
    "bert": bert("bert"),
    "electra": bert("electra"),
    "deberta_v2": attention(
        f"{BERT.format('deberta')}.attention", "self.query_proj self.key_proj self.value_proj output.dense"
    )
    | mlp(BERT.format("deberta"), "intermediate.dense", "output.dense"),
    "distilbert": attention("distilbert.transformer.layer.{}.attention", "q_lin k_lin v_lin out_lin")
    | mlp("distilbert.transformer.layer.{}.ffn", "lin1", "lin2"),
    "modernbert": attention(f"{LAYER}.attn", "Wqkv Wo")
    | {
        "fc_in": (f"{LAYER}.mlp.Wi.weight", WIDE),
        "fc_up": (f"{LAYER}.mlp.Wi.weight", WIDE),
        "fc_out": (f"{LAYER}.mlp.Wo.weight", NARROW),
    },
}
"""The same of models that fill in masks."""


@pytest.mark.parametrize("architecture", MASKED)
def test_every_matrix_of_a_model_that_fills_in_masks_is_found_where_it_stands(
    architecture: str, build_masked: BuildModel, tmp_path: Path
) -> None:
    model = build_masked(architecture)
    model.save_pretrained(tmp_path)
    skeleton = load_skeleton(find_checkpoint(ModelSpec(name=architecture, path=str(tmp_path))))
    assert type(skeleton) is type(model)
    for layout, owner in ((find_layout(model), model), (find_layout(skeleton), skeleton)):
        places = MASKED[architecture]
        assert layout.num_layers == 2
        assert layout.weights.keys() == {Matrix(tau, layer) for tau in places for layer in range(2)}
        for matrix, weight in layout.weights.items():
            path, shape = places[matrix.tau]
            assert weight.parameter is owner.get_parameter(path.format(matrix.layer))
            assert weight.shape == shape


@pytest.mark.parametrize("architecture", PLACES)
def test_embeddings_and_the_head_of_the_model_are_never_named(architecture: str, build_model: BuildModel) -> None:
    model = build_model(architecture)
    named = {id(weight.parameter) for weight in find_layout(model).weights.values()}
    assert id(model.get_input_embeddings().weight) not in named
    assert id(model.get_output_embeddings().weight) not in named


@pytest.mark.parametrize("architecture", ["mixtral", "gpt_oss"])
def test_a_type_names_all_experts_of_a_layer_and_a_number_names_one(architecture: str, build_model: BuildModel) -> None:
    layout = find_layout(build_model(architecture))
    assert layout.matrices("fc_in", 1) == tuple(Matrix(f"fc_in.{expert}", 1) for expert in range(EXPERTS))
    assert layout.matrices("fc_in.3", 1) == (Matrix("fc_in.3", 1),)
    assert layout.matrices("q_proj", 1) == (Matrix("q_proj", 1),)
    assert layout.matrices("fc_in.4", 1) == ()
    assert layout.matrices("fc", 1) == ()
    assert layout.matrices("fc_in", 2) == ()


def test_more_than_ten_experts_keep_their_own_numbers(build_model: BuildModel) -> None:
    layout = find_layout(build_model("mixtral", num_local_experts=12))
    assert layout.matrices("fc_in.1", 0) == (Matrix("fc_in.1", 0),)
    assert len(layout.matrices("fc_in", 0)) == 12
    assert layout.weights[Matrix("fc_out.11", 1)].expert == 11


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


def with_listed_experts(model: PreTrainedModel, **names: str) -> PreTrainedModel:
    """A model of three blocks with five experts in each."""
    for block in model.model.layers:
        block.mlp = nn.ModuleDict()
        block.mlp["experts"] = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(32, 32) for name in names.values()}) for _ in range(5)
        )
    return model


def test_a_list_of_experts_that_is_longer_than_the_list_of_blocks_is_not_taken_for_it(build_model: BuildModel) -> None:
    layout = find_layout(with_listed_experts(build_model("llama"), into="w1", out="w2"))
    assert layout.num_layers == 3
    assert layout.taus == ("q_proj", "k_proj", "v_proj", "out_proj")
    assert layout.shape(Matrix("k_proj", 2)) == HALF


def test_a_block_with_two_matrices_of_one_role_is_refused(build_model: BuildModel) -> None:
    model = with_listed_experts(build_model("llama"), into="gate_proj")
    with pytest.raises(RequestError, match=r"^LlamaForCausalLM has two matrices that could be fc_in\[0\]"):
        find_layout(model)


def test_two_matrices_of_one_role_are_found_out_in_a_later_block(build_model: BuildModel) -> None:
    model = build_model("gptj")
    model.transformer.h[2].mlp.second = nn.ModuleDict({"fc_out": nn.Linear(32, 32)})
    with pytest.raises(RequestError, match=r"^GPTJForCausalLM has two matrices that could be fc_out\[2\]"):
        find_layout(model)


def test_a_model_with_attention_to_another_model_is_refused(build_model: BuildModel) -> None:
    with pytest.raises(RequestError, match=r"^GPT2LMHeadModel has two matrices that could be q_proj\[0\]"):
        find_layout(build_model("gpt2", add_cross_attention=True))


def test_blocks_that_share_one_matrix_are_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.model.layers[2].mlp.down_proj.weight = model.model.layers[1].mlp.down_proj.weight
    with pytest.raises(RequestError, match=r"fc_out\[1\] of LlamaForCausalLM is shared with another part of the model"):
        find_layout(model)


def test_a_block_that_stands_twice_in_the_list_is_refused(build_model: BuildModel) -> None:
    model = build_model("mixtral")
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(RequestError, match=r"\[0\] of MixtralForCausalLM is shared with another part of the model"):
        find_layout(model)


def test_a_fused_matrix_is_not_shared_among_its_own_parts_but_with_other_blocks(build_model: BuildModel) -> None:
    model = build_model("gpt_neox")
    find_layout(model)
    layers = model.gpt_neox.layers
    layers[0].attention.query_key_value.weight = layers[1].attention.query_key_value.weight
    with pytest.raises(RequestError, match=r"q_proj\[0\] of GPTNeoXForCausalLM is shared"):
        find_layout(model)


def test_a_matrix_shared_with_the_embeddings_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama", vocab_size=32, tie_word_embeddings=False)
    model.model.layers[0].self_attn.q_proj.weight = model.model.embed_tokens.weight
    with pytest.raises(RequestError, match=r"q_proj\[0\] of LlamaForCausalLM is shared"):
        find_layout(model)


def test_a_model_that_applies_one_block_as_all_its_layers_is_refused(build_masked: BuildModel) -> None:
    reason = r"^the weights of AlbertForMaskedLM are shared: it applies 1 block as 4 layers, so an edit would not stay"
    with pytest.raises(RequestError, match=reason):
        find_layout(build_masked("albert"))
    with pytest.raises(RequestError, match=r"it applies 2 blocks as 4 layers"):
        find_layout(build_masked("albert", num_hidden_groups=2))


def test_a_group_of_blocks_that_is_applied_as_one_layer_is_refused(build_masked: BuildModel) -> None:
    with pytest.raises(RequestError, match=r"^AlbertForMaskedLM has two matrices that could be q_proj\[0\]"):
        find_layout(build_masked("albert", inner_group_num=2))


def test_a_model_without_blocks_is_refused(build_model: BuildModel) -> None:
    with pytest.raises(RequestError, match="LlamaForCausalLM has no list of blocks"):
        find_layout(build_model("llama", num_hidden_layers=0))


def test_a_list_of_blocks_without_linear_maps_that_can_be_named_is_refused(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.model.layers = nn.ModuleList(nn.Sequential(nn.Linear(32, 32)) for _ in range(3))
    with pytest.raises(RequestError, match="LlamaForCausalLM has no list of blocks"):
        find_layout(model)


def test_a_type_that_names_experts_does_not_also_name_the_expert_they_share(build_model: BuildModel) -> None:
    layout = find_layout(build_model("qwen2_moe"))
    assert len(layout.matrices("fc_in", 0)) in (0, 5)  # all or refused, not one of two kinds without saying so


def renamed(build_model: BuildModel, **names: str) -> PreTrainedModel:
    """A Llama whose maps of the MLP have other names than anybody's."""
    model = build_model("llama")
    for block in model.model.layers:
        for old, new in names.items():
            setattr(block.mlp, new, getattr(block.mlp, old))
            delattr(block.mlp, old)
    return model


def test_roles_name_what_the_table_does_not_know(build_model: BuildModel) -> None:
    model = renamed(build_model, gate_proj="w1", up_proj="w3", down_proj="w2")
    assert find_layout(model).taus == ("q_proj", "k_proj", "v_proj", "out_proj")
    layout = find_layout(model, read_roles({"fc_in": ["w1"], "fc_out": "mlp.w2"}))
    assert layout.taus == ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out")
    for layer, block in enumerate(model.model.layers):
        assert layout.weights[Matrix("fc_in", layer)].parameter is block.mlp.w1.weight
        assert layout.weights[Matrix("fc_out", layer)].parameter is block.mlp.w2.weight


def test_roles_come_before_what_the_table_says(build_model: BuildModel) -> None:
    model = build_model("gptj")
    layout = find_layout(model, read_roles({"fc_out": ["fc_in"], "fc_in": ["fc_out"]}))
    assert layout.weights[Matrix("fc_in", 1)].parameter is model.transformer.h[1].mlp.fc_out.weight
    assert layout.weights[Matrix("fc_out", 1)].parameter is model.transformer.h[1].mlp.fc_in.weight


@pytest.mark.parametrize(
    ("architecture", "tau", "ending", "shape"),
    [("gpt_neox", "v_proj", "query_key_value", (96, 32)), ("mixtral", "fc_up.2", "experts.gate_up_proj", (96, 32))],
)
def test_a_fused_map_that_roles_name_is_one_matrix(
    architecture: str, tau: str, ending: str, shape: tuple[int, int], build_model: BuildModel
) -> None:
    layout = find_layout(build_model(architecture), ((tau.partition(".")[0], (ending,)),))
    assert layout.shape(Matrix(tau, 1)) == shape
    assert not layout.matrices({"v_proj": "q_proj", "fc_up.2": "fc_in"}[tau], 1)


def test_a_map_up_that_roles_name_keeps_its_name_without_a_gate(build_model: BuildModel) -> None:
    layout = find_layout(build_model("gptj"), read_roles({"fc_up": ["mlp.fc_in"]}))
    assert layout.taus == ("q_proj", "k_proj", "v_proj", "out_proj", "fc_up", "fc_out")


def test_an_ending_that_fits_no_linear_map_is_refused_with_the_names_that_there_are(build_model: BuildModel) -> None:
    names = "attn.k_proj, attn.v_proj, attn.q_proj, attn.out_proj, mlp.fc_in, mlp.fc_out"
    for wrong in ("w1", "c_in", "ln_1"):  # a name, a part of a name, a module that is no linear map
        with pytest.raises(RequestError) as error:
            find_layout(build_model("gptj"), read_roles({"fc_in": ["fc_in", wrong]}))
        assert str(error.value) == (
            f"model.roles.fc_in=[{wrong}] fits no linear map in a block of GPTJForCausalLM, which has {names}"
        )


def test_names_of_experts_are_shown_once(build_model: BuildModel) -> None:
    with pytest.raises(RequestError, match=r"self_attn\.o_proj, mlp\.experts\.\*\.w1$"):
        find_layout(with_listed_experts(build_model("llama"), into="w1"), read_roles({"fc_in": ["w4"]}))


def test_a_model_of_which_nothing_can_be_named_says_which_names_roles_may_use(build_model: BuildModel) -> None:
    model = build_model("llama")
    model.model.layers = nn.ModuleList(nn.ModuleDict({"w1": nn.Linear(32, 32)}) for _ in range(3))
    with pytest.raises(RequestError, match=r"can be named; say which is which with \+model\.roles\.fc_in=.*, of w1$"):
        find_layout(model)
    assert find_layout(model, read_roles({"fc_in": ["w1"]})).taus == ("fc_in",)
