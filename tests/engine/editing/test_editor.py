from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from laser_sweep.engine.editing.editor import Editor, RestoreError, checksum
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.trial import Edit, Matrix

BuildModel = Callable[..., PreTrainedModel]
Bits = Callable[[torch.Tensor], torch.Tensor]
Truncation = Callable[[torch.Tensor, int], torch.Tensor]

INTEGERS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
PATHS = {
    "gptj": {
        "fc_in": "transformer.h.{}.mlp.fc_in",
        "fc_out": "transformer.h.{}.mlp.fc_out",
        "out_proj": "transformer.h.{}.attn.out_proj",
    },
    "gpt2": {
        "fc_in": "transformer.h.{}.mlp.c_fc",
        "fc_out": "transformer.h.{}.mlp.c_proj",
        "out_proj": "transformer.h.{}.attn.c_proj",
    },
}
SEVERAL = (
    Edit(matrix=Matrix("fc_in", 0), rho=0.25),
    Edit(matrix=Matrix("out_proj", 1), rho=0.0, method="zero"),
    Edit(matrix=Matrix("fc_out", 2), rho=0.5, method="prune"),
    Edit(matrix=Matrix("out_proj", 0), rho=0.1, method="randomized", options=(("power_iterations", 2), ("seed", 0))),
)


def laser(tau: str, layer: int, rho: float) -> Edit:
    return Edit(matrix=Matrix(tau, layer), rho=rho)


def parameter_bits(model: PreTrainedModel, bits: Bits) -> dict[str, torch.Tensor]:
    return {name: bits(parameter) for name, parameter in model.named_parameters()}


def assert_same_bits(model: PreTrainedModel, before: dict[str, torch.Tensor], bits: Bits) -> None:
    after = parameter_bits(model, bits)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == []


@pytest.mark.parametrize(
    ("architecture", "tau", "path", "transposed"),
    [
        ("gptj", "fc_in", "transformer.h.1.mlp.fc_in", False),
        ("gptj", "q_proj", "transformer.h.1.attn.q_proj", False),
        ("llama", "fc_up", "model.layers.1.mlp.up_proj", False),
        ("llama", "k_proj", "model.layers.1.self_attn.k_proj", False),
        ("gpt2", "fc_in", "transformer.h.1.mlp.c_fc", True),
        ("gpt2", "fc_out", "transformer.h.1.mlp.c_proj", True),
        ("gpt2", "out_proj", "transformer.h.1.attn.c_proj", True),
    ],
)
def test_inside_the_block_the_weight_is_its_truncated_svd(
    architecture: str, tau: str, path: str, transposed: bool, build_model: BuildModel, svd_truncation: Truncation
) -> None:
    model = build_model(architecture)
    stored = model.get_submodule(path).weight
    original = (stored.T if transposed else stored).clone()  # (out, in)
    rank = int(min(original.shape) * 0.25)
    with Editor(find_layout(model)).applied([laser(tau, 1, 0.25)]) as applied:
        inside = (stored.T if transposed else stored).clone()
    assert [made.rank for made in applied.footprints] == [rank]
    torch.testing.assert_close(inside.double(), svd_truncation(original, rank), rtol=0, atol=1e-5)
    assert (inside - original).abs().max() > 0.1


@pytest.mark.parametrize("architecture", ["gptj", "gpt2"])
def test_inside_the_block_the_model_answers_like_a_copy_edited_by_hand(
    architecture: str, build_model: BuildModel, svd_truncation: Truncation
) -> None:
    model = build_model(architecture)
    by_hand = copy.deepcopy(model)
    weight = by_hand.transformer.h[2].mlp.get_submodule("fc_in" if architecture == "gptj" else "c_fc").weight
    weight.copy_(svd_truncation(weight, 3))
    input_ids = torch.arange(1, 9)[None]
    before = model(input_ids).logits
    with Editor(find_layout(model)).applied([laser("fc_in", 2, 0.1)]):
        inside = model(input_ids).logits
    torch.testing.assert_close(inside, by_hand(input_ids).logits, rtol=1e-4, atol=1e-4)
    assert (inside - before).abs().max() > 0.1
    assert torch.equal(model(input_ids).logits, before)


@pytest.mark.parametrize("architecture", ["gptj", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_several_weights_are_edited_together_and_come_back_bit_for_bit(
    architecture: str, dtype: torch.dtype, build_model: BuildModel, bits: Bits, svd_truncation: Truncation
) -> None:
    model = build_model(architecture, dtype=dtype)
    edited = [edit.matrix for edit in SEVERAL]

    def stored() -> list[torch.Tensor]:
        return [model.get_submodule(PATHS[architecture][m.tau].format(m.layer)).weight.clone() for m in edited]

    before = parameter_bits(model, bits)
    originals = stored()
    with Editor(find_layout(model)).applied(SEVERAL) as applied:
        inside = stored()
    assert [made.rank for made in applied.footprints] == [8, 0, None, 3]
    truncated = svd_truncation(originals[0], 8)
    tolerance = 0.02 if dtype.itemsize == 2 else 1e-5
    torch.testing.assert_close(inside[0].double(), truncated, rtol=tolerance, atol=tolerance)
    assert inside[1].eq(0).all()
    assert inside[2].eq(0).double().mean() == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(inside[3], originals[3])
    assert_same_bits(model, before, bits)
    assert all(torch.equal(now, original) for now, original in zip(stored(), originals, strict=True))


@pytest.mark.parametrize("architecture", ["gptj", "gpt2"])
def test_negative_zeros_and_other_rare_bit_patterns_come_back(
    architecture: str, build_model: BuildModel, bits: Bits
) -> None:
    model = build_model(architecture)
    weight = model.get_submodule(PATHS[architecture]["fc_in"].format(0)).weight
    weight[0, :3] = torch.tensor([-0.0, 1e-42, -1e-45])  # the last two are subnormal
    before = parameter_bits(model, bits)
    with Editor(find_layout(model)).applied([laser("fc_in", 0, 0.5)]):
        pass
    assert_same_bits(model, before, bits)


def test_a_weight_comes_back_bit_for_bit_when_the_body_raises(build_model: BuildModel, bits: Bits) -> None:
    model = build_model("gptj", dtype=torch.bfloat16)
    before = parameter_bits(model, bits)
    with pytest.raises(ZeroDivisionError), Editor(find_layout(model)).applied(SEVERAL):
        raise ZeroDivisionError
    assert_same_bits(model, before, bits)


def test_what_the_body_writes_to_an_edited_weight_is_undone_with_the_edit(build_model: BuildModel, bits: Bits) -> None:
    model = build_model("gptj")
    before = parameter_bits(model, bits)
    with Editor(find_layout(model)).applied([laser("fc_in", 0, 0.5)]):
        model.transformer.h[0].mlp.fc_in.weight.fill_(7.0)
    assert_same_bits(model, before, bits)


@pytest.mark.parametrize("architecture", ["gptj", "gpt2"])
def test_a_parameter_keeps_its_storage_and_its_identity(architecture: str, build_model: BuildModel) -> None:
    model = build_model(architecture)
    before = {name: (id(parameter), parameter.data_ptr()) for name, parameter in model.named_parameters()}

    def now() -> dict[str, tuple[int, int]]:
        return {name: (id(parameter), parameter.data_ptr()) for name, parameter in model.named_parameters()}

    with Editor(find_layout(model)).applied(SEVERAL):
        assert now() == before
    assert now() == before


def test_weights_that_are_not_edited_are_never_written(build_model: BuildModel, bits: Bits) -> None:
    model = build_model("llama")
    before = parameter_bits(model, bits)
    with Editor(find_layout(model)).applied([laser("fc_out", 1, 0.1)]):
        inside = parameter_bits(model, bits)
    changed = {name for name in before if not torch.equal(before[name], inside[name])}
    assert changed == {"model.layers.1.mlp.down_proj.weight"}


def test_no_edits_leave_the_model_untouched(build_model: BuildModel, bits: Bits) -> None:
    model = build_model("gptj")
    before = parameter_bits(model, bits)
    with Editor(find_layout(model)).applied([]) as applied:
        assert_same_bits(model, before, bits)
    assert applied.footprints == ()


@pytest.mark.parametrize("method", ["laser", "prune"])
def test_nothing_is_changed_when_one_of_the_edits_cannot_be_computed(
    method: str, build_model: BuildModel, bits: Bits
) -> None:
    model = build_model("gptj")
    model.transformer.h[1].mlp.fc_out.weight[0, 0] = torch.nan
    before = parameter_bits(model, bits)
    edits = [laser("fc_in", 0, 0.25), Edit(matrix=Matrix("fc_out", 1), rho=0.25, method=method)]
    entered = False
    with pytest.raises(ValueError, match="not finite"), Editor(find_layout(model)).applied(edits):
        entered = True
    assert not entered
    assert_same_bits(model, before, bits)


def test_a_spoilt_weight_can_still_be_replaced_and_comes_back_as_it_was(build_model: BuildModel, bits: Bits) -> None:
    model = build_model("gptj")
    weight = model.transformer.h[1].mlp.fc_out.weight
    weight[0, 0] = torch.nan
    before = parameter_bits(model, bits)
    with Editor(find_layout(model)).applied([Edit(matrix=Matrix("fc_out", 1), rho=0.0, method="zero")]):
        assert weight.eq(0).all()
    assert_same_bits(model, before, bits)


def test_a_weight_that_something_else_wrote_between_two_edits_is_reported(build_model: BuildModel) -> None:
    model = build_model("gptj")
    editor = Editor(find_layout(model))
    edits = [laser("fc_in", 0, 0.25), laser("fc_in", 1, 0.25)]
    with editor.applied(edits):
        pass
    model.transformer.h[1].mlp.fc_in.weight[3, 5] += 1
    with pytest.raises(RestoreError, match=r"fc_in\[1\] did not come back bit for bit"), editor.applied(edits):
        pass


def test_all_weights_are_put_back_before_one_that_is_spoilt_is_reported(build_model: BuildModel, bits: Bits) -> None:
    model = build_model("gptj")
    editor = Editor(find_layout(model))
    edits = [laser("fc_in", 0, 0.25), laser("fc_in", 1, 0.25)]
    with editor.applied(edits):
        pass
    model.transformer.h[0].mlp.fc_in.weight[3, 5] += 1
    before = parameter_bits(model, bits)
    with pytest.raises(RestoreError, match=r"fc_in\[0\]"), editor.applied(edits):
        pass
    assert_same_bits(model, before, bits)


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


def test_all_rho_of_a_matrix_cost_one_decomposition(build_model: BuildModel, decompositions: list[torch.Size]) -> None:
    editor = Editor(find_layout(build_model("gptj")))
    costs = []
    for rho in (0.1, 0.25, 0.5, 0.9):
        with editor.applied([laser("fc_in", 0, rho)]) as applied:
            costs.append(applied)
    assert decompositions == [(32, 32)]
    assert [made.rank for cost in costs for made in cost.footprints] == [3, 8, 16, 28]
    with editor.applied([laser("fc_in", 1, 0.1)]):
        pass
    assert len(decompositions) == 2


def test_only_the_last_used_factors_are_kept(build_model: BuildModel, decompositions: list[torch.Size]) -> None:
    editor = Editor(find_layout(build_model("gptj")), cached_matrices=2)
    for layer in (0, 1, 0, 2, 0, 1):  # 2 pushes 1 out, which was used less recently than 0
        with editor.applied([laser("fc_in", layer, 0.5)]):
            pass
    assert len(decompositions) == 4


def test_methods_that_need_no_factors_decompose_nothing(
    build_model: BuildModel, decompositions: list[torch.Size]
) -> None:
    editor = Editor(find_layout(build_model("gptj")))
    with editor.applied(SEVERAL[1:]) as applied:
        pass
    assert decompositions == []
    assert applied.seconds_factor == 0
    assert applied.seconds_edit > 0


@st.composite
def bit_patterns(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = tuple(INTEGERS)) -> torch.Tensor:
    """Any matrix of floats, NaN and infinities among them."""
    dtype = draw(st.sampled_from(dtypes))
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    info = torch.iinfo(INTEGERS[dtype])
    patterns = draw(st.lists(st.integers(info.min, info.max), min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(patterns, dtype=INTEGERS[dtype]).view(dtype).reshape(rows, columns)


@settings(deadline=None, max_examples=80)
@given(weight=bit_patterns(), data=st.data())
def test_a_checksum_changes_when_one_bit_of_one_entry_flips(weight: torch.Tensor, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, weight.numel() - 1))
    bit = data.draw(st.integers(0, 8 * weight.element_size() - 1))
    patterns = weight.clone().view(INTEGERS[weight.dtype])
    lowest = torch.iinfo(patterns.dtype).min
    patterns.view(-1)[place] ^= lowest if bit == 8 * weight.element_size() - 1 else 1 << bit
    assert checksum(patterns.view(weight.dtype)) != checksum(weight)


@settings(deadline=None, max_examples=80)
@given(weight=bit_patterns((torch.float16, torch.bfloat16, torch.float32)), data=st.data())
def test_a_checksum_changes_when_two_entries_swap(weight: torch.Tensor, data: st.DataObject) -> None:
    first, second = (data.draw(st.integers(0, weight.numel() - 1)) for _ in range(2))
    patterns = weight.clone().view(INTEGERS[weight.dtype]).view(-1)
    swapped = patterns.clone()
    swapped[first], swapped[second] = patterns[second], patterns[first]
    same = torch.equal(swapped, patterns)
    assert (checksum(swapped.reshape(weight.shape).view(weight.dtype)) == checksum(weight)) == same


def test_a_checksum_changes_when_a_float64_entry_swaps_with_its_negative() -> None:
    weight = torch.tensor([[1.5, -1.5]], dtype=torch.float64)
    assert checksum(weight.flip(1)) != checksum(weight)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_a_checksum_tells_the_two_zeros_apart(dtype: torch.dtype) -> None:
    positive = torch.zeros(3, 3, dtype=dtype)
    negative = positive.clone()
    negative[1, 1] = -0.0
    assert torch.equal(positive, negative)
    assert checksum(positive) != checksum(negative)


@pytest.mark.parametrize(("first", "second"), [(0, 511), (0, 512), (511, 512), (100, 1024), (512, 1024)])
def test_a_checksum_changes_when_far_rows_of_a_tall_matrix_swap(first: int, second: int) -> None:
    weight = torch.randn(1100, 2, generator=torch.Generator().manual_seed(0))
    swapped = weight.clone()
    swapped[[first, second]] = weight[[second, first]]
    assert checksum(swapped) != checksum(weight)


def test_a_checksum_belongs_to_the_matrix_and_not_to_how_it_is_stored() -> None:
    weight = torch.randn(7, 5)
    assert checksum(weight.T.contiguous().T) == checksum(weight)
    assert checksum(weight.T) != checksum(weight)


def test_equal_matrices_have_equal_checksums() -> None:
    weight = torch.randn(600, 3)
    assert checksum(weight.clone()) == checksum(weight)
