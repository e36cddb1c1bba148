from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laser_sweep.engine.models.weight import Weight

Bits = Callable[[torch.Tensor], torch.Tensor]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@st.composite
def weights(draw: st.DrawFn) -> Weight:
    """A weight of any kind: stored either way round, whole or some rows in any order, alone or among experts."""
    outputs, inputs, experts = (draw(st.integers(1, 6)) for _ in range(3))
    transposed = draw(st.booleans())
    expert = draw(st.none() | st.integers(0, experts - 1))
    rows = draw(st.none() | st.lists(st.integers(0, outputs - 1), min_size=1, unique=True))
    shape = (inputs, outputs) if transposed else (outputs, inputs)
    values = torch.randn(shape if expert is None else (experts, *shape), dtype=torch.float64)
    return Weight(
        parameter=torch.nn.Parameter(values.to(draw(st.sampled_from(DTYPES))), requires_grad=False),
        transposed=transposed,
        expert=expert,
        rows=None if rows is None else torch.tensor(rows),
    )


def entry(weight: Weight, row: int, column: int) -> tuple[int, ...]:
    """Where an entry of the matrix stands in the parameter."""
    place = row if weight.rows is None else int(weight.rows[row])
    stored = (column, place) if weight.transposed else (place, column)
    return stored if weight.expert is None else (weight.expert, *stored)


@settings(deadline=None, max_examples=150)
@given(weight=weights())
def test_a_matrix_is_read_entry_by_entry_from_where_it_is_stored(weight: Weight) -> None:
    matrix = weight.read()
    assert matrix.shape == weight.shape
    assert matrix.dtype == weight.parameter.dtype
    for row in range(weight.shape[0]):
        for column in range(weight.shape[1]):
            assert matrix[row, column] == weight.parameter[entry(weight, row, column)]


@settings(deadline=None, max_examples=150)
@given(weight=weights(), dtype=st.sampled_from(DTYPES))
def test_what_is_written_is_stored_in_the_parameters_dtype_and_nothing_else_changes(
    weight: Weight, dtype: torch.dtype
) -> None:
    matrix = torch.randn(weight.shape, dtype=torch.float64).to(dtype)
    expected = weight.parameter.clone()
    for row in range(weight.shape[0]):
        for column in range(weight.shape[1]):
            expected[entry(weight, row, column)] = matrix[row, column].to(expected.dtype)
    storage = weight.parameter.data_ptr()
    weight.write(matrix)
    assert torch.equal(weight.parameter, expected)
    assert torch.equal(weight.read(), matrix.to(expected.dtype))
    assert weight.parameter.data_ptr() == storage


@settings(deadline=None, max_examples=80)
@given(weight=weights(), seed=st.integers(0, 1000))
def test_a_copy_that_was_read_restores_every_bit(bits: Bits, weight: Weight, seed: int) -> None:
    patterns = bits(weight.parameter)
    patterns.random_(generator=torch.Generator().manual_seed(seed))  # NaN, subnormals and both zeros among them
    weight.parameter.copy_(patterns.view(weight.parameter.dtype))
    before = bits(weight.parameter)
    original = weight.read().clone()
    weight.write(torch.zeros(weight.shape))
    weight.write(original)
    assert torch.equal(bits(weight.parameter), before)


@pytest.mark.parametrize("rows", [None, [2, 0]])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_parameter_that_learns_is_written_without_a_record_of_it(rows: list[int] | None, transposed: bool) -> None:
    parameter = torch.nn.Parameter(torch.randn(3, 3))
    weight = Weight(
        parameter=parameter, transposed=transposed, rows=None if rows is None else torch.tensor(rows, dtype=torch.long)
    )
    weight.write(torch.ones(weight.shape))
    assert parameter.is_leaf
    assert not weight.read().requires_grad
    assert weight.read().eq(1).all()
