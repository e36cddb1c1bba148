from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from laser_sweep.engine.evaluation.batches import Batch, Collator, within_budget
from laser_sweep.engine.evaluation.packing import alone
from laser_sweep.engine.tasks.tokenise import Passage

CPU = torch.device("cpu")
PAD = 7
SHAPES = st.lists(
    st.integers(1, 12).flatmap(
        lambda length: st.tuples(
            st.just(length), st.sets(st.integers(0, length - 1), min_size=1, max_size=3), st.integers(0, 3)
        )
    ),
    min_size=1,
    max_size=30,
)
Shapes = list[tuple[int, set[int], int]]


def passages(shapes: Shapes) -> list[Passage]:
    """Passages of these lengths, read positions and numbers of candidates, in which no two numbers are equal."""
    return [
        Passage(
            input_ids=tuple(100 * row + 10 + place for place in range(length)),
            positions=tuple(sorted(positions)),
            targets=tuple(10_000 + 100 * row + place for place in sorted(positions)),
            candidates=tuple(20_000 + 10 * row + candidate for candidate in range(candidates)),
        )
        for row, (length, positions, candidates) in enumerate(shapes)
    ]


def rows_of(batch: Batch, width_of: dict[int, int]) -> list[tuple[int, Passage]]:
    """Each passage, alone in its row, read back from the tensors."""
    rows = []
    reads = list(zip(batch.owners.tolist(), batch.places.T.tolist(), batch.targets.tolist(), strict=True))
    for number, index in enumerate(batch.indices):
        mine = [(position, target) for owner, (row, position), target in reads if owner == row == number]
        assert len(mine) == int(batch.num_reads[number])
        rows.append(
            (
                index,
                Passage(
                    input_ids=tuple(batch.input_ids[number, : width_of[index]].tolist()),
                    positions=tuple(position for position, _ in mine),
                    targets=tuple(target for _, target in mine),
                    candidates=tuple(c for c in batch.candidates[number].tolist() if c != -1),
                ),
            )
        )
    return rows


@settings(deadline=None)
@given(shapes=SHAPES, budget=st.integers(1, 60), masked=st.booleans())
def test_every_passage_stands_in_exactly_one_batch_with_its_own_tokens(
    shapes: Shapes, budget: int, masked: bool
) -> None:
    asked = passages(shapes)
    widths = {row: length for row, (length, _, _) in enumerate(shapes)}
    batches = Collator(CPU, PAD if masked else None).batches(alone(asked), budget)
    assert sorted((row for batch in batches for row in rows_of(batch, widths)), key=lambda row: row[0]) == list(
        enumerate(asked)
    )


@settings(deadline=None)
@given(shapes=SHAPES)
def test_a_masked_model_is_told_which_tokens_are_padding(shapes: Shapes) -> None:
    (batch,) = Collator(CPU, PAD).batches(alone(passages(shapes)), 10_000)
    assert batch.attention_mask is not None
    assert batch.attention_mask.sum(dim=1).tolist() == [shapes[index][0] for index in batch.indices]
    assert (batch.input_ids[batch.attention_mask == 0] == PAD).all()
    assert (batch.attention_mask.diff(dim=1) <= 0).all()


def test_a_causal_model_needs_no_mask_and_sees_no_pad_token() -> None:
    (batch,) = Collator(CPU).batches(alone(passages([(2, {1}, 0), (4, {3}, 0)])), 100)
    assert batch.attention_mask is None
    assert batch.input_ids.tolist() == [[110, 111, 112, 113], [10, 11, 11, 11]]


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=30), budget=st.integers(1, 60))
def test_a_batch_keeps_to_its_budget_and_ends_only_where_the_next_does_not_fit(sizes: list[int], budget: int) -> None:
    batches = list(within_budget(sizes, budget))
    assert sorted(place for batch in batches for place in batch) == list(range(len(sizes)))
    for number, batch in enumerate(batches):
        widest = max(sizes[place] for place in batch)
        assert len(batch) * widest <= budget or len(batch) == 1
        assert (len(batch) + 1) * widest > budget or number == len(batches) - 1


@settings(deadline=None)
@given(shapes=SHAPES, budget=st.integers(1, 60))
def test_the_longest_passages_come_first_and_no_batch_is_wider_than_its_longest(shapes: Shapes, budget: int) -> None:
    batches = Collator(CPU).batches(alone(passages(shapes)), budget)
    lengths = [length for length, _, _ in shapes]
    assert [lengths[place] for batch in batches for place in batch.indices] == sorted(lengths, reverse=True)
    for batch in batches:
        assert batch.input_ids.shape == (len(batch), max(lengths[place] for place in batch.indices))


def test_passages_of_one_length_stay_in_order() -> None:
    assert list(within_budget([3, 3, 5, 3], 6)) == [[2], [0, 1], [3]]


def test_nothing_makes_no_batches() -> None:
    assert Collator(CPU).batches([], 100) == []


@settings(deadline=None)
@given(shapes=SHAPES.filter(lambda shapes: len(shapes) > 1))
def test_the_halves_of_a_batch_are_its_rows_in_order_and_about_as_many(shapes: Shapes) -> None:
    widths = {row: length for row, (length, _, _) in enumerate(shapes)}
    collator = Collator(CPU)
    (batch,) = collator.batches(alone(passages(shapes)), 10_000)
    first, second = collator.halves(batch)
    assert rows_of(first, widths) + rows_of(second, widths) == rows_of(batch, widths)
    assert 0 <= len(second) - len(first) <= 1
    assert len(first) >= 1
