"""Which rows are whose is asked of the models: what they cache, where they attend, what their experts compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, ModernBertDecoderConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.models.layout import Layout, find_layout
from laser_sweep.trial import Edit, Matrix

BuildModel = Callable[..., PreTrainedModel]
Bits = Callable[[torch.Tensor], torch.Tensor]
Truncation = Callable[[torch.Tensor, int], torch.Tensor]

FUSED = {
    "gpt2": ("transformer.h.{}.attn.c_attn", "transformer.h.{}.attn.c_proj"),
    "gpt_neox": ("gpt_neox.layers.{}.attention.query_key_value", "gpt_neox.layers.{}.attention.dense"),
    "phi3": ("model.layers.{}.self_attn.qkv_proj", "model.layers.{}.self_attn.o_proj"),
    "falcon_multi_query": (
        "transformer.h.{}.self_attention.query_key_value",
        "transformer.h.{}.self_attention.dense",
    ),
    "falcon_grouped": ("transformer.h.{}.self_attention.query_key_value", "transformer.h.{}.self_attention.dense"),
    "falcon_per_head": ("transformer.h.{}.self_attention.query_key_value", "transformer.h.{}.self_attention.dense"),
    "bloom": ("transformer.h.{}.self_attention.query_key_value", "transformer.h.{}.self_attention.dense"),
    "gpt_bigcode": ("transformer.h.{}.attn.c_attn", "transformer.h.{}.attn.c_proj"),
    "gpt_bigcode_per_head": ("transformer.h.{}.attn.c_attn", "transformer.h.{}.attn.c_proj"),
    "codegen": ("transformer.h.{}.attn.qkv_proj", "transformer.h.{}.attn.out_proj"),
}
"""The fused map of q, k and v, and the map out of the attention."""
PARTS = ("q_proj", "k_proj", "v_proj")
EXPERT_PARTS = ("fc_in", "fc_up", "fc_out")
INPUT_IDS = torch.arange(1, 9)[None]
LAYER = 1


def build_eager(build_model: BuildModel, architecture: str) -> PreTrainedModel:
    """A model that shows where it attends, and whose fused maps add nothing to their products."""
    changes: dict[str, Any] = {"multi_query": False} if architecture == "gpt_bigcode_per_head" else {}
    name = architecture.removesuffix("_per_head") if changes else architecture
    model = build_model(name, attn_implementation="eager", **changes)
    for layer in range(model.config.num_hidden_layers):
        bias = fused_map(model, architecture, layer).bias
        if bias is not None:
            bias.zero_()
    return model


def fused_map(model: PreTrainedModel, architecture: str, layer: int = LAYER) -> nn.Linear | Conv1D:
    module = model.get_submodule(FUSED[architecture][0].format(layer))
    assert isinstance(module, nn.Linear | Conv1D)
    return module


class Attended:
    """What one layer of a model does with some tokens: its keys and values, where it attends, what it mixes."""

    def __init__(self, model: PreTrainedModel, architecture: str, input_ids: torch.Tensor = INPUT_IDS) -> None:
        mixed: list[torch.Tensor] = []
        out = model.get_submodule(FUSED[architecture][1].format(LAYER))
        handle = out.register_forward_pre_hook(lambda module, inputs: mixed.append(inputs[0]))
        answer = model(input_ids=input_ids, use_cache=True, output_attentions=True)
        handle.remove()
        cached = answer.past_key_values.layers[LAYER]
        self.keys, self.values = cached.keys, cached.values  # (1, heads, tokens, head)
        self.weights = answer.attentions[LAYER]  # (1, heads, tokens, tokens)
        (self.mixed,) = mixed  # (1, tokens, heads * head)


@contextmanager
def returning(module: nn.Module, outputs: torch.Tensor) -> Iterator[None]:
    handle = module.register_forward_hook(lambda module, inputs, _: outputs)
    yield
    handle.remove()


def rows_of_the_forward_pass(model: PreTrainedModel, architecture: str) -> dict[str, list[int]]:
    """The rows that the model takes for its keys and values; its queries are the others.

    The fused map is made to return the numbers of its rows. Positions do not rotate the first token.
    """
    module = fused_map(model, architecture)
    outputs = module.weight.shape[1 if isinstance(module, Conv1D) else 0]
    with returning(module, torch.arange(outputs, dtype=torch.float32).expand(1, 1, -1)):
        attended = Attended(model, architecture, INPUT_IDS[:, :1])
    keys, values = ({int(number) for number in states.unique()} for states in (attended.keys, attended.values))
    return {
        "q_proj": sorted(set(range(outputs)) - keys - values),
        "k_proj": sorted(keys),
        "v_proj": sorted(values),
    }


def stored(module: nn.Linear | Conv1D) -> torch.Tensor:
    """(out, in)"""
    return module.weight.T if isinstance(module, Conv1D) else module.weight


def write_zeros(layout: Layout, tau: str) -> None:
    weight = layout.weights[Matrix(tau, LAYER)]
    weight.write(torch.zeros(weight.shape))


@pytest.mark.parametrize("architecture", FUSED)
@pytest.mark.parametrize("tau", PARTS)
def test_writing_a_part_changes_the_rows_that_the_model_takes_for_it_and_no_others(
    architecture: str, tau: str, build_model: BuildModel, bits: Bits
) -> None:
    model = build_eager(build_model, architecture)
    rows = rows_of_the_forward_pass(model, architecture)[tau]
    before = {name: bits(parameter) for name, parameter in model.named_parameters()}
    module = fused_map(model, architecture)
    original = stored(module).clone()
    weight = find_layout(model).weights[Matrix(tau, LAYER)]
    assert torch.equal(weight.read(), original[rows])
    weight.write(torch.full(weight.shape, 7.0))
    now = stored(module)
    assert now[rows].eq(7).all()
    others = sorted(set(range(len(original))) - set(rows))
    assert torch.equal(bits(now[others]), bits(original[others]))
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(bits(parameter), before[name])}
    assert changed == {f"{FUSED[architecture][0].format(LAYER)}.weight"}


@pytest.mark.parametrize("architecture", FUSED)
def test_the_parts_of_a_fused_map_are_disjoint_and_make_it_up(architecture: str, build_model: BuildModel) -> None:
    model = build_eager(build_model, architecture)
    rows = rows_of_the_forward_pass(model, architecture)
    layout = find_layout(model)
    for number, tau in enumerate(PARTS):
        weight = layout.weights[Matrix(tau, LAYER)]
        weight.write(torch.full(weight.shape, float(number)))
    written = stored(fused_map(model, architecture))
    assert sorted(row for part in rows.values() for row in part) == list(range(len(written)))
    for number, tau in enumerate(PARTS):
        assert written[rows[tau]].eq(number).all()


@pytest.mark.parametrize("architecture", FUSED)
def test_a_model_whose_values_are_zero_mixes_nothing(architecture: str, build_model: BuildModel) -> None:
    model = build_eager(build_model, architecture)
    before = Attended(model, architecture)
    write_zeros(find_layout(model), "v_proj")
    after = Attended(model, architecture)
    assert before.mixed.abs().amax() > 0.1
    assert after.mixed.eq(0).all()
    assert after.values.eq(0).all()
    assert torch.equal(after.keys, before.keys)
    assert torch.equal(after.weights, before.weights)


@pytest.mark.parametrize("architecture", FUSED)
@pytest.mark.parametrize("tau", ["q_proj", "k_proj"])
def test_a_model_whose_queries_or_keys_are_zero_attends_by_position_alone(
    architecture: str, tau: str, build_model: BuildModel
) -> None:
    model = build_eager(build_model, architecture)
    before = Attended(model, architecture)
    write_zeros(find_layout(model), tau)
    after = Attended(model, architecture)
    assert torch.equal(after.values, before.values)
    if tau == "k_proj":
        assert after.keys.eq(0).all()
    else:
        assert torch.equal(after.keys, before.keys)
    visible = torch.ones_like(after.weights).tril()
    if architecture == "bloom":  # tokens further back count for less, by 2^-2, 2^-4, 2^-6, 2^-8 each in its 4 heads
        slopes = 2.0 ** -torch.arange(2, 9, 2)
        visible = visible * (slopes[:, None, None] * torch.arange(INPUT_IDS.shape[1])).exp()
    by_position = visible / visible.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(after.weights, by_position, rtol=1e-5, atol=1e-6)
    assert (before.weights - by_position).abs().amax() > 0.1


@pytest.mark.parametrize("architecture", FUSED)
@pytest.mark.parametrize("tau", PARTS)
def test_an_edit_of_a_part_is_the_truncated_svd_of_its_rows_and_comes_back_bit_for_bit(
    architecture: str, tau: str, build_model: BuildModel, bits: Bits, svd_truncation: Truncation
) -> None:
    model = build_eager(build_model, architecture)
    rows = rows_of_the_forward_pass(model, architecture)[tau]
    module = fused_map(model, architecture)
    original = stored(module).clone()
    before = bits(module.weight)
    storage = module.weight.data_ptr()
    rank = int(min(len(rows), 32) * 0.25)
    with Editor(find_layout(model)).applied([Edit(matrix=Matrix(tau, LAYER), rho=0.25)]) as applied:
        inside = stored(module).clone()
        assert module.weight.data_ptr() == storage
    assert [made.rank for made in applied.footprints] == [rank]
    torch.testing.assert_close(inside[rows].double(), svd_truncation(original[rows], rank), rtol=0, atol=1e-5)
    assert (inside[rows] - original[rows]).abs().amax() > 0.1
    others = sorted(set(range(len(original))) - set(rows))
    assert torch.equal(bits(inside[others]), bits(original[others]))
    assert torch.equal(bits(module.weight), before)
    assert module.weight.data_ptr() == storage


def test_the_parts_of_one_map_are_edited_together_and_come_back_bit_for_bit(
    build_model: BuildModel, bits: Bits, svd_truncation: Truncation
) -> None:
    model = build_model("falcon_grouped", dtype=torch.bfloat16)
    weight = model.transformer.h[LAYER].self_attention.query_key_value.weight
    groups = weight.view(2, 4, 8, 32)  # two groups of two queries, a key and a value
    key, value = groups[:, 2].reshape(16, 32).clone(), groups[:, 3].reshape(16, 32).clone()
    before = bits(weight)
    edits = [Edit(matrix=Matrix(tau, LAYER), rho=rho) for tau, rho in (("k_proj", 0.25), ("v_proj", 0.5))]
    with Editor(find_layout(model)).applied([*edits, Edit(matrix=Matrix("q_proj", LAYER), rho=0.0, method="zero")]):
        inside = groups.clone()
    assert inside[:, :2].eq(0).all()
    for part, original, rank in ((2, key, 4), (3, value, 8)):
        truncated = svd_truncation(original, rank)
        torch.testing.assert_close(inside[:, part].reshape(16, 32).double(), truncated, rtol=0.02, atol=0.02)
    assert torch.equal(bits(weight), before)


def test_linear_attention_takes_queries_keys_and_values_head_by_head(build_model: BuildModel) -> None:
    model = build_model("minimax", num_key_value_heads=4, layer_types=["linear_attention"] * 2)
    attention = model.model.layers[LAYER].self_attn
    hidden_states = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(0))
    mixed: list[torch.Tensor] = []
    attention.norm.register_forward_pre_hook(lambda module, inputs: mixed.append(inputs[0]))
    attention(hidden_states, None, None)
    weights = find_layout(model).weights
    parts = (weights[Matrix(tau, LAYER)].read() @ hidden_states.flatten() for tau in PARTS)
    query, key, value = (F.silu(part).view(4, 8) for part in parts)
    of_one_token = (query * key).sum(dim=-1, keepdim=True) * value
    torch.testing.assert_close(mixed[0].flatten(), of_one_token.flatten(), rtol=1e-4, atol=1e-5)


def sigmoid_gated(build_model: BuildModel, architecture: str) -> PreTrainedModel:
    """A model whose gate is open by half where it is fed zeros."""
    return build_model(architecture, hidden_act="sigmoid", experts_implementation="eager")


@pytest.mark.parametrize("tau", ["fc_in", "fc_up"])
def test_gate_and_up_are_told_apart_by_what_the_mlp_computes(tau: str, build_model: BuildModel, bits: Bits) -> None:
    model = sigmoid_gated(build_model, "phi3")
    mlp = model.model.layers[LAYER].mlp
    hidden_states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    layout = find_layout(model)
    gate, up = (layout.weights[Matrix(name, LAYER)].read() @ hidden_states.T for name in ("fc_in", "fc_up"))
    computed = mlp.down_proj((gate.sigmoid() * up).T)
    torch.testing.assert_close(mlp(hidden_states), computed, rtol=1e-4, atol=1e-4)
    before = bits(mlp.gate_up_proj.weight)
    write_zeros(layout, tau)
    expected = mlp.down_proj(0.5 * up.T) if tau == "fc_in" else torch.zeros(5, 32)
    torch.testing.assert_close(mlp(hidden_states), expected, rtol=1e-4, atol=1e-5)
    changed = (bits(mlp.gate_up_proj.weight) != before).any(dim=1)
    assert changed.sum() == 48
    assert changed.view(2, 48).all(dim=1).tolist() == [tau == "fc_in", tau == "fc_up"]


def answer_of(experts: nn.Module, expert: int, hidden_states: torch.Tensor) -> torch.Tensor:
    """What one expert says to all tokens (tokens, hidden)."""
    tokens = len(hidden_states)
    answer: torch.Tensor = experts(hidden_states, torch.full((tokens, 1), expert), torch.ones(tokens, 1))
    return answer


def computed_by_hand(layout: Layout, experts: nn.Module, expert: int, hidden_states: torch.Tensor) -> torch.Tensor:
    """The same from the matrices of the layout and the biases of the model."""
    gate, up, out = (layout.weights[Matrix(f"{tau}.{expert}", LAYER)].read().T for tau in EXPERT_PARTS)
    if "gate_up_proj_bias" not in dict(experts.named_parameters()):
        return (hidden_states @ gate).sigmoid() * (hidden_states @ up) @ out
    # gpt-oss (OpenAI, 2025): x * sigmoid(1.702 x) * (y + 1), clamped at 7
    bias = experts.gate_up_proj_bias[expert].view(-1, 2)
    opened = (hidden_states @ gate + bias[:, 0]).clamp(max=7)
    passed = (hidden_states @ up + bias[:, 1]).clamp(-7, 7)
    return opened * (1.702 * opened).sigmoid() * (passed + 1) @ out + experts.down_proj_bias[expert]


def gated_experts(build_model: BuildModel, architecture: str) -> tuple[PreTrainedModel, nn.Module]:
    model = sigmoid_gated(build_model, architecture)
    experts = model.model.layers[LAYER].mlp.experts
    for name, parameter in experts.named_parameters():
        if name.endswith("bias"):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model, experts


@pytest.mark.parametrize("architecture", ["mixtral", "gpt_oss", "qwen2_moe"])
def test_the_matrices_of_an_expert_compute_what_the_expert_does(architecture: str, build_model: BuildModel) -> None:
    model, experts = gated_experts(build_model, architecture)
    hidden_states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    layout = find_layout(model)
    for expert in range(4):
        torch.testing.assert_close(
            answer_of(experts, expert, hidden_states),
            computed_by_hand(layout, experts, expert, hidden_states),
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("architecture", ["mixtral", "gpt_oss"])
@pytest.mark.parametrize("tau", EXPERT_PARTS)
def test_an_expert_without_one_of_its_matrices_says_what_is_left_and_the_others_say_the_same(
    architecture: str, tau: str, build_model: BuildModel
) -> None:
    model, experts = gated_experts(build_model, architecture)
    hidden_states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    if architecture == "gpt_oss":
        experts.gate_up_proj_bias.zero_()
    layout = find_layout(model)
    gate, up, out = (layout.weights[Matrix(f"{name}.3", LAYER)].read().T.clone() for name in EXPERT_PARTS)
    before = [answer_of(experts, expert, hidden_states) for expert in range(4)]
    write_zeros(layout, f"{tau}.3")
    after = [answer_of(experts, expert, hidden_states) for expert in range(4)]
    assert all(torch.equal(before[expert], after[expert]) for expert in range(3))
    assert (after[3] - before[3]).abs().amax() > 0.1
    expected = torch.zeros(5, 32)
    if architecture == "mixtral" and tau == "fc_in":
        expected = 0.5 * (hidden_states @ up) @ out
    if architecture == "gpt_oss":
        expected = experts.down_proj_bias[3].expand(5, -1)
        if tau == "fc_up":
            opened = (hidden_states @ gate).clamp(max=7)
            expected = opened * (1.702 * opened).sigmoid() @ out + expected
    torch.testing.assert_close(after[3], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["mixtral", "gpt_oss"])
@pytest.mark.parametrize("tau", ["fc_in.3", "fc_up.1", "fc_out.0"])
def test_an_edit_of_an_expert_stays_in_it_and_comes_back_bit_for_bit(
    architecture: str, tau: str, build_model: BuildModel, bits: Bits, svd_truncation: Truncation
) -> None:
    model, experts = gated_experts(build_model, architecture)
    name, expert = ("down_proj" if tau == "fc_out.0" else "gate_up_proj"), int(tau[-1])
    parameter = experts.get_parameter(name)
    places = {
        ("mixtral", "fc_in.3"): (expert, slice(0, 48)),
        ("mixtral", "fc_up.1"): (expert, slice(48, 96)),
        ("gpt_oss", "fc_in.3"): (expert, slice(None), slice(0, None, 2)),
        ("gpt_oss", "fc_up.1"): (expert, slice(None), slice(1, None, 2)),
    }.get((architecture, tau), (expert,))
    original, before, storage = parameter.clone(), bits(parameter), parameter.data_ptr()
    with Editor(find_layout(model)).applied([Edit(matrix=Matrix(tau, LAYER), rho=0.25)]) as applied:
        inside = parameter.clone()
        assert parameter.data_ptr() == storage
    assert [made.rank for made in applied.footprints] == [8]
    torch.testing.assert_close(inside[places].double(), svd_truncation(original[places], 8), rtol=0, atol=1e-5)
    assert (inside[places] - original[places]).abs().amax() > 0.1
    inside[places] = original[places]
    assert torch.equal(bits(inside), before)
    assert torch.equal(bits(parameter), before)


def test_the_matrices_of_experts_that_do_not_say_how_they_are_stored_are_the_right_way_round(
    build_model: BuildModel,
) -> None:
    model = sigmoid_gated(build_model, "llama4")
    experts = model.model.layers[LAYER].feed_forward.experts
    hidden_states = torch.randn(4, 5, 32, generator=torch.Generator().manual_seed(0))  # each expert's tokens
    layout = find_layout(model)
    expected = [computed_by_hand(layout, experts, expert, hidden_states[expert]) for expert in range(4)]
    torch.testing.assert_close(experts(hidden_states.view(20, 32)), torch.cat(expected), rtol=1e-4, atol=1e-4)


def attention_of(model: PreTrainedModel, changed: tuple[int, torch.Tensor] | None = None) -> torch.Tensor:
    """Where one layer of ModernBERT attends (heads, tokens, tokens); `changed`: a token, and rows that say nothing."""

    def silence(module: nn.Module, inputs: object, outputs: torch.Tensor) -> torch.Tensor:
        if changed is not None:
            outputs[0, changed[0], changed[1]] = 0
        return outputs

    handle = model.get_submodule(f"model.layers.{LAYER}.attn.Wqkv").register_forward_hook(silence)
    attended = model(input_ids=INPUT_IDS, output_attentions=True).attentions[LAYER]
    handle.remove()
    return attended[0]


def test_queries_keys_and_values_of_modernbert_are_told_apart_by_where_it_attends(build_masked: BuildModel) -> None:
    model = build_masked("modernbert", attn_implementation="eager")
    layout = find_layout(model)
    rows = {tau: layout.weights[Matrix(tau, LAYER)].rows for tau in PARTS}
    assert sorted(torch.cat([part for part in rows.values() if part is not None]).tolist()) == list(range(96))
    before = attention_of(model)
    moved = {tau: (attention_of(model, (3, part)) - before).abs().amax(dim=(0, 2)) for tau, part in rows.items()}
    others = [token for token in range(8) if token != 3]
    assert moved["q_proj"][3] > 0.01  # the query of a token says where this token looks
    assert moved["q_proj"][others].eq(0).all()
    assert moved["k_proj"].gt(1e-4).all()  # its key, where all tokens look
    assert moved["v_proj"].eq(0).all()


def test_modernbert_without_values_mixes_nothing(build_masked: BuildModel) -> None:
    model = build_masked("modernbert")
    mixed: list[torch.Tensor] = []
    out = model.model.layers[LAYER].attn.Wo
    out.register_forward_pre_hook(lambda module, inputs: mixed.append(inputs[0]))
    model(input_ids=INPUT_IDS)
    write_zeros(find_layout(model), "v_proj")
    model(input_ids=INPUT_IDS)
    assert mixed[0].abs().amax() > 0.1
    assert mixed[1].eq(0).all()


@pytest.mark.parametrize("reads", ["both ways", "forward"])
def test_the_gate_of_modernbert_is_what_its_activation_opens(reads: str, build_masked: BuildModel) -> None:
    model = build_masked("modernbert", hidden_activation="sigmoid")
    if reads == "forward":
        model = AutoModelForCausalLM.from_config(ModernBertDecoderConfig(**vars(model.config)))
        model.requires_grad_(False).eval()
    mlp = model.model.layers[LAYER].mlp
    hidden_states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    layout = find_layout(model)
    gate, up, out = (layout.weights[Matrix(tau, LAYER)].read() for tau in EXPERT_PARTS)
    opened = (hidden_states @ gate.T).sigmoid()
    torch.testing.assert_close(mlp(hidden_states), opened * (hidden_states @ up.T) @ out.T, rtol=1e-4, atol=1e-5)
    write_zeros(layout, "fc_up")
    assert mlp(hidden_states).eq(0).all()
