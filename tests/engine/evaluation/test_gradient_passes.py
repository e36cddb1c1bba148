"""How a model is passed forth and back, what it is like afterwards, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional

from laser_sweep.engine.evaluation.gradients import slopes
from laser_sweep.trial import Matrix

from .cases import ALL_TOGETHER, VOCABULARY, BuildModel, Case, assert_close

MakeCase = Callable[..., Case]


# Modules that see tokens otherwise


class _Routed(nn.Module):
    """An MLP of which only some tokens get anything; its maps see these tokens in one row."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        chosen = hidden_states[..., 0] > 0
        tokens = hidden_states[chosen]
        output = torch.zeros_like(hidden_states)
        output[chosen] = self.down_proj(functional.silu(self.gate_proj(tokens)) * self.up_proj(tokens))
        return output


def test_maps_that_see_some_of_the_tokens_are_asked_one_example_at_a_time(
    build_model: BuildModel, make_case: MakeCase
) -> None:
    model = build_model("llama", vocab_size=VOCABULARY).double()
    model.model.layers[1].mlp = _Routed(model.model.layers[1].mlp)
    case = make_case(model)
    rows: list[int] = []
    model.lm_head.register_forward_hook(lambda module, arguments, output: rows.append(arguments[0].shape[1]))
    expected = case.by_autograd().gradients
    rows.clear()
    _, found = case.by_example()
    assert rows == [len(asked.positions) for asked in case.questions]
    for matrix, gradients in expected.items():
        assert_close(found[matrix], gradients, 1e-8)


def test_a_model_may_change_what_its_maps_give_in_place(build_model: BuildModel, make_case: MakeCase) -> None:
    model = build_model("llama", vocab_size=VOCABULARY).double()
    matrix = Matrix("fc_in", 1)
    expected = make_case(model).by_autograd(matrix).gradients
    model.model.layers[1].mlp.act_fn = nn.SiLU(inplace=True)
    assert_close(make_case(model).by_example(matrix)[1][matrix], expected[matrix], 1e-8)


def test_an_input_that_is_changed_in_place_is_refused(make_case: MakeCase) -> None:
    case = make_case("llama")

    def change(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        arguments[0].mul_(2)  # of the map that comes after

    case.model.model.layers[1].mlp.up_proj.register_forward_pre_hook(change)
    with pytest.raises(ValueError, match=r"the input of fc_in\[1\] is changed in place after it was read"):
        case.slopes(Matrix("fc_in", 1))


def test_a_batch_has_an_eighth_of_the_tokens_of_one_that_is_only_scored(make_case: MakeCase) -> None:
    case = make_case("llama")
    sizes: list[tuple[int, int]] = []
    case.layout.blocks[0].register_forward_hook(lambda m, arguments, output: sizes.append(tuple(output.shape[:2])))
    case.slopes(Matrix("fc_in", 0), batch_tokens=8 * 30)
    assert sum(rows for rows, _ in sizes) == 6
    assert max(rows for rows, _ in sizes) > 1
    assert max(rows * tokens for rows, tokens in sizes) <= 30


def test_a_batch_that_does_not_fit_is_halved(make_case: MakeCase) -> None:
    case = make_case("llama")
    expected = case.slopes()
    sizes: list[int] = []

    def refuse(module: nn.Module, arguments: Any, output: torch.Tensor) -> None:
        def back(gradient: torch.Tensor) -> None:
            sizes.append(len(gradient))
            if len(gradient) > 2:
                raise torch.OutOfMemoryError("the device is full")

        output.register_hook(back)

    case.model.model.layers[1].register_forward_hook(refuse)
    for matrix, found in case.slopes().items():
        np.testing.assert_allclose(found.values, expected[matrix].values, rtol=0, atol=1e-10)
        np.testing.assert_allclose(found.values_stderr, expected[matrix].values_stderr, rtol=0, atol=1e-10)
        assert found.num_examples == 6
    assert sizes == [6, 3, 1, 2, 3, 1, 2]


# What cannot be computed


def test_a_loss_that_is_not_finite_is_refused(make_case: MakeCase) -> None:
    case = make_case("llama")
    directions = case.directions(Matrix("fc_in", 0))
    case.model.model.layers[1].mlp.up_proj.weight[3, 5] = torch.nan
    with pytest.raises(ValueError, match="the loss of 6 answers is not finite"):
        slopes(case.forward, case.collator, case.encoded, directions, batch_tokens=ALL_TOGETHER)


def test_a_gradient_that_is_not_finite_is_refused_with_its_matrix_and_examples(make_case: MakeCase) -> None:
    case = make_case("llama")

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient[:2] = torch.nan
        return gradient

    block = case.model.model.layers[1]
    block.register_forward_hook(
        lambda module, arguments, output: output.requires_grad and output.register_hook(spoil) and None
    )
    with pytest.raises(ValueError, match=r"the gradient along fc_in\[0\] is not finite for 2 of 6 examples"):
        case.slopes(Matrix("fc_out", 2), Matrix("fc_in", 0))


def test_matrices_below_a_block_that_detaches_are_refused_and_those_above_are_not(make_case: MakeCase) -> None:
    case = make_case("llama")
    above, below = Matrix("fc_in", 2), Matrix("fc_in", 0)
    case.model.model.layers[1].register_forward_hook(lambda module, arguments, output: output.detach())
    expected = case.by_autograd(above).gradients[above]
    assert_close(torch.from_numpy(case.slopes(above)[above].values), expected.mean(dim=0), 1e-8)
    message = r"gradients do not reach fc_in\[0\] of LlamaForCausalLM: the loss does not depend on what it gives"
    for asked in ((above, below), (below,)):
        with pytest.raises(ValueError, match=message):
            case.slopes(*asked)


def test_a_map_that_the_model_applies_without_calling_it_is_refused(make_case: MakeCase) -> None:
    case = make_case("llama")
    mlp = case.model.model.layers[1].mlp
    mlp.forward = lambda states: functional.linear(functional.linear(states, mlp.up_proj.weight), mlp.down_proj.weight)
    with pytest.raises(ValueError, match=r"gradients do not reach fc_in\[1\] of LlamaForCausalLM: it is not called"):
        case.slopes(Matrix("fc_out", 2), Matrix("fc_in", 1))


# What is left behind


@pytest.mark.parametrize("architecture", ["gptj", "mixtral"])
def test_a_model_is_left_as_it_was_also_after_an_error(architecture: str, make_case: MakeCase) -> None:
    case = make_case(architecture)
    before = {name: parameter.clone() for name, parameter in case.model.named_parameters()}

    def assert_untouched() -> None:
        for name, parameter in case.model.named_parameters():
            assert torch.equal(parameter, before[name])
            assert parameter.grad is None
            assert not parameter.requires_grad
            assert not parameter._post_accumulate_grad_hooks
        for module in case.model.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
        assert case.forward.narrows

    case.slopes()
    assert_untouched()

    def fail(module: nn.Module, arguments: Any, output: Any) -> None:
        def back(gradient: torch.Tensor) -> None:
            raise RuntimeError("no way back")

        (output[0] if isinstance(output, tuple) else output).register_hook(back)

    handle = case.layout.blocks[0].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="no way back"):
        case.slopes()
    handle.remove()
    assert_untouched()


def test_the_way_back_ends_at_the_lowest_matrix(make_case: MakeCase) -> None:
    case = make_case("llama")
    graphs: list[bool] = []
    for block in case.layout.blocks:
        block.register_forward_hook(lambda module, arguments, output: graphs.append(output.requires_grad))
    case.slopes(Matrix("out_proj", 1), Matrix("fc_in", 2))
    assert graphs == [False, True, True]


def test_what_a_block_read_is_let_go_as_the_way_back_passes_it(make_case: MakeCase) -> None:
    case = make_case("llama")
    read: list[StorageWeakRef] = []
    alive: list[list[bool]] = []

    def note(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        read.append(StorageWeakRef(arguments[0].untyped_storage()))

    def look(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        def back(gradient: torch.Tensor) -> None:
            alive.append([not reference.expired() for reference in read])

        output.register_hook(back)

    for block in case.layout.blocks:
        block.mlp.gate_proj.register_forward_hook(note)
        block.register_forward_hook(look)
    case.slopes(*(Matrix("fc_in", layer) for layer in range(3)))
    assert alive == [[True, True, True], [True, True, False], [True, False, False]]
