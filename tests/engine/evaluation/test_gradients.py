"""Gradients along singular directions are those that autograd finds by the singular values themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.tokenise import Encoded, Passage
from laser_sweep.trial import Matrix

from .cases import ALL_TOGETHER, EXPERTS, SHARED_KEYS, VOCABULARY, BuildModel, Case, assert_close, examples

MakeCase = Callable[..., Case]
CAUSAL = [
    *("gptj", "llama", "gpt2", "opt", "phi", "roberta", "gpt_neox", "mistral", "qwen3", "gemma3", "phi3", "bloom"),
    *("falcon_multi_query", "falcon_grouped", "falcon_per_head", "bert", "codegen", "gpt_bigcode"),
]
MASKED = [f"masked {name}" for name in ("roberta", "bert", "electra", "deberta_v2", "modernbert", "distilbert")]
IN_FLOAT32 = ("gptj", "codegen")  # their attention is, so that padding shows


# What the gradients are


@pytest.mark.parametrize("architecture", [*CAUSAL, *EXPERTS, *MASKED, SHARED_KEYS])
def test_each_example_has_the_gradients_of_autograd_along_every_matrix(architecture: str, make_case: MakeCase) -> None:
    case = make_case(architecture)
    expected = case.by_autograd()
    losses, found = case.by_example()
    tolerance = 1e-5 if architecture in IN_FLOAT32 else 1e-8
    torch.testing.assert_close(losses, expected.losses, rtol=0, atol=tolerance)
    largest = max(float(one.abs().max()) for one in expected.gradients.values())
    assert found.keys() == expected.gradients.keys() == case.layout.weights.keys()
    for matrix, gradients in expected.gradients.items():
        assert found[matrix].shape == gradients.shape == (6, min(case.layout.shape(matrix)))
        assert (found[matrix] - gradients).abs().max() <= tolerance * largest, matrix
    moved = [matrix for matrix, gradients in expected.gradients.items() if gradients.abs().max() > 1e-3 * largest]
    assert len(moved) > len(found) / 2


def test_the_slopes_are_the_gradient_of_the_mean_loss_and_add_up_to_the_gradient_of_the_weight(
    make_case: MakeCase,
) -> None:
    case = make_case("phi")
    found = case.slopes()
    model = copy.deepcopy(case.model).requires_grad_(True)
    losses = [
        functional.cross_entropy(
            model(input_ids=torch.tensor([asked.input_ids])).logits[0, list(asked.positions)],
            torch.tensor(asked.targets),
            reduction="sum",
        )
        / asked.length
        for asked in case.questions
    ]
    torch.stack(losses).mean().backward()
    for matrix, weight in find_layout(model).weights.items():
        gradient, values = weight.parameter.grad, weight.read()
        left, singular, right = torch.linalg.svd(values, full_matrices=False)
        assert_close(torch.from_numpy(found[matrix].values), torch.diag(left.T @ gradient @ right.T), 1e-8)
        total = float((gradient * values).sum())
        assert float(singular @ torch.from_numpy(found[matrix].values)) == pytest.approx(total, abs=1e-10)
        assert found[matrix].gains[0] == pytest.approx(total, abs=1e-10)


@pytest.mark.parametrize("architecture", ["gpt2", "qwen2_moe", "masked roberta"])
@pytest.mark.parametrize("batch_tokens", [1, 200, ALL_TOGETHER])
def test_means_and_standard_errors_are_those_of_the_examples_however_they_are_batched(
    architecture: str, batch_tokens: int, make_case: MakeCase
) -> None:
    case = make_case(architecture, examples(9))
    expected = case.by_autograd().gradients
    for matrix, found in case.slopes(batch_tokens=batch_tokens).items():
        each = expected[matrix].numpy()  # (examples, r)
        singular = torch.linalg.svdvals(case.layout.weights[matrix].read()).numpy()
        gains = np.array([[sum((row * singular)[i:]) for i in range(len(row))] for row in each])
        last = each[:, -20:]
        last20 = last[:, last.mean(axis=0) > 0].sum(axis=1)
        assert found.num_examples == 9
        for curve, stderr, values in (
            (found.values, found.values_stderr, each),
            (found.gains, found.gains_stderr, gains),
        ):
            scale = np.abs(values).max()
            np.testing.assert_allclose(curve, values.mean(axis=0), rtol=0, atol=1e-8 * scale)
            np.testing.assert_allclose(stderr, values.std(axis=0, ddof=1) / 3, rtol=0, atol=1e-8 * scale)
            assert curve.dtype == stderr.dtype == np.float64
        assert found.last20 == pytest.approx(last20.mean(), rel=1e-7, abs=1e-9)
        assert found.last20_stderr == pytest.approx(last20.std(ddof=1) / 3, rel=1e-7, abs=1e-9)


def test_one_example_has_no_standard_errors(make_case: MakeCase) -> None:
    for found in make_case("llama", examples(1)).slopes().values():
        assert found.num_examples == 1
        assert np.isfinite(found.values).all()
        assert np.isfinite(found.gains).all()
        assert np.isnan(found.values_stderr).all()
        assert np.isnan(found.gains_stderr).all()
        assert np.isnan(found.last20_stderr)


@pytest.mark.parametrize(
    ("architecture", "dtype", "tolerance"),
    [
        *((name, torch.float32, 1e-3) for name in ("llama", "gpt2", "gpt_neox", "mixtral")),
        *((name, torch.bfloat16, 0.1) for name in ("llama", "gpt2", "gpt_neox")),
        *((name, torch.float16, 0.02) for name in ("llama", "gpt2", "gpt_neox")),
    ],
)
def test_a_model_in_less_precision_has_nearly_the_gradients_of_its_weights(
    architecture: str,
    dtype: torch.dtype,
    tolerance: float,
    build_model: BuildModel,
    make_case: MakeCase,
) -> None:
    case = make_case(build_model(architecture, dtype=dtype, vocab_size=VOCABULARY))
    expected = case.by_autograd().gradients
    for matrix, found in case.slopes().items():
        assert_close(torch.from_numpy(found.values), expected[matrix].mean(dim=0), tolerance)


# What is hard for a computer


@pytest.mark.parametrize("head", [2.0**-9, 2.0**7])
def test_float16_gradients_neither_vanish_nor_overflow(
    head: float, build_model: BuildModel, make_case: MakeCase
) -> None:
    model = build_model("gpt2", dtype=torch.float16, vocab_size=VOCABULARY, tie_word_embeddings=False)
    model.lm_head.weight.mul_(head)
    model.transformer.ln_f.weight.mul_(0.1)
    case = make_case(model, examples(3))
    expected = case.by_autograd().gradients
    for matrix, found in case.slopes().items():
        assert_close(torch.from_numpy(found.values), expected[matrix].mean(dim=0), 0.03)


@pytest.mark.parametrize("shape", [(24, 32), (48, 32)])
def test_along_directions_that_do_not_exist_the_gradient_is_0(
    shape: tuple[int, int], make_case: MakeCase, build_model: BuildModel
) -> None:
    matrix = Matrix("fc_in", 1)
    model = build_model("llama", vocab_size=VOCABULARY, intermediate_size=shape[0]).double()
    weight = model.model.layers[1].mlp.gate_proj.weight
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight.copy_(torch.randn(shape[0], 5).double() @ torch.randn(5, shape[1]).double())
    case = make_case(model)
    found = case.slopes(matrix)[matrix]
    expected = case.by_autograd(matrix).gradients[matrix]
    assert_close(torch.from_numpy(found.values[:5]), expected.mean(dim=0)[:5], 1e-8)
    assert (found.values[5:] == 0).all()
    weight.zero_()
    empty = case.slopes(matrix)[matrix]
    assert (empty.values == 0).all()
    assert empty.last20 == 0


def test_where_removing_a_direction_lowers_the_loss_its_gradient_is_positive(
    build_model: BuildModel, make_case: MakeCase
) -> None:
    """The last map up of a model adds the embedding of a wrong token wherever the right one is asked for."""
    right, wrong = 7, 8
    model = build_model("gptj", vocab_size=VOCABULARY, n_layer=1).double()
    block = model.transformer.h[0]
    for parameter in block.parameters():
        parameter.zero_()
    block.ln_1.weight.fill_(1.0)
    block.mlp.fc_in.bias.fill_(1.0)
    model.lm_head.weight.copy_(model.transformer.wte.weight)
    model.transformer.wte.weight[3] = model.transformer.wte.weight[right]
    towards = model.transformer.wte.weight[wrong]
    weight = block.mlp.fc_out.weight  # (hidden, intermediate)
    weight.copy_(torch.outer(towards, torch.ones(weight.shape[1]).double()) * 3 / weight.shape[1])
    weight[:, :8] += 1e-3 * torch.eye(32, 8).double()
    passage = Passage(input_ids=(5, 3), positions=(1,), targets=(right,))
    encoded = [Encoded(example=Example(id="0", prompt="", gold=""), kind="token", passages=(passage,))]
    matrix = Matrix("fc_out", 0)
    case = make_case(model, encoded)
    found = case.slopes(matrix)[matrix]
    before, _ = case.by_example(matrix)
    left, singular, last = torch.linalg.svd(weight, full_matrices=False)
    weight.sub_(singular[0] * torch.outer(left[:, 0], last[0]))
    after, _ = case.by_example(matrix)
    assert after < before - 0.1
    assert found.values[0] > 0
    assert found.gains[0] > 0


def test_the_predicted_gain_of_a_small_step_comes_true(make_case: MakeCase) -> None:
    """Directions shrink by a thousandth instead of to nothing."""
    case = make_case("llama")
    matrix, first, step = Matrix("fc_out", 1), 20, 1e-3
    found = case.slopes(matrix)[matrix]
    weight = case.layout.weights[matrix].parameter
    before, _ = case.by_example(matrix)
    left, singular, right = torch.linalg.svd(weight, full_matrices=False)
    weight.sub_(step * left[:, first:] @ torch.diag(singular[first:]) @ right[first:])
    after, _ = case.by_example(matrix)
    assert float((before - after).mean()) == pytest.approx(step * found.gains[first], rel=0.05)
