from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laser_sweep.engine.evaluation.batches import Batch, make_batches
from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.tokenise import Encoded

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=30)


def encoded(lengths: list[int], choices: int = 0) -> list[Encoded]:
    """Prompts of these lengths in which no two tokens are equal."""
    return [
        Encoded(
            Example(id=str(row), prompt="", gold=""),
            tuple(100 * row + place for place in range(length)),
            gold_id=1000 + row,
            choice_ids=tuple(10 * row + choice for choice in range(choices)),
        )
        for row, length in enumerate(lengths)
    ]


def rows_of(batch: Batch) -> list[tuple[int, list[int], int, list[int]]]:
    """(place, prompt without padding, gold, choices) of every row."""
    return [
        (index, row[: position + 1].tolist(), int(gold), choices.tolist())
        for index, row, position, gold, choices in zip(
            batch.indices, batch.input_ids, batch.answer_positions, batch.gold_ids, batch.choice_ids, strict=True
        )
    ]


@settings(deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 60), choices=st.integers(0, 3))
def test_every_example_stands_in_exactly_one_batch_with_its_own_tokens(
    lengths: list[int], budget: int, choices: int
) -> None:
    asked = encoded(lengths, choices)
    rows = sorted(row for batch in make_batches(asked, budget, CPU) for row in rows_of(batch))
    assert rows == [
        (place, list(example.input_ids), example.gold_id, list(example.choice_ids))
        for place, example in enumerate(asked)
    ]


@settings(deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 60))
def test_a_batch_keeps_to_its_budget_with_padding_counted(lengths: list[int], budget: int) -> None:
    for batch in make_batches(encoded(lengths), budget, CPU):
        assert batch.input_ids.numel() <= budget or len(batch) == 1


@settings(deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 60))
def test_a_batch_ends_only_where_the_next_example_does_not_fit(lengths: list[int], budget: int) -> None:
    batches = make_batches(encoded(lengths), budget, CPU)
    for batch in batches[:-1]:
        rows, width = batch.input_ids.shape
        assert (rows + 1) * width > budget


@settings(deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 60))
def test_the_longest_prompts_come_first_and_no_batch_is_wider_than_its_longest(lengths: list[int], budget: int) -> None:
    batches = make_batches(encoded(lengths), budget, CPU)
    order = [lengths[place] for batch in batches for place in batch.indices]
    assert order == sorted(lengths, reverse=True)
    for batch in batches:
        assert batch.input_ids.shape == (len(batch), max(lengths[place] for place in batch.indices))


def test_prompts_of_one_length_stay_in_order() -> None:
    assert [batch.indices for batch in make_batches(encoded([3, 3, 5, 3]), 6, CPU)] == [(2,), (0, 1), (3,)]


def test_without_choices_there_is_no_column_for_them() -> None:
    (batch,) = make_batches(encoded([2, 3]), 100, CPU)
    assert batch.choice_ids.shape == (2, 0)
    assert batch.choice_ids.dtype == torch.long


def test_no_examples_make_no_batches() -> None:
    assert make_batches([], 100, CPU) == []


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=2, max_size=30), choices=st.integers(0, 3))
def test_the_halves_of_a_batch_are_its_rows_in_order_and_about_as_many(lengths: list[int], choices: int) -> None:
    (batch,) = make_batches(encoded(lengths, choices), 10_000, CPU)
    first, second = batch.halves()
    assert rows_of(first) + rows_of(second) == rows_of(batch)
    assert 0 <= len(second) - len(first) <= 1
    assert len(first) >= 1
