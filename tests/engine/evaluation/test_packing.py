from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.engine.evaluation.packing import ROW_TOKENS, Row, alone, packed
from laser_sweep.engine.tasks.tokenise import Passage

TEXTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=40)


def passages(texts: list[list[int]]) -> list[Passage]:
    return [Passage(input_ids=tuple(ids), positions=(len(ids) - 1,), targets=(0,)) for ids in texts]


def read_back(row: Row, number: int) -> tuple[list[int], list[int]]:
    """The tokens and positions of one passage, as its branch of the row shows them."""
    mine = [place for place, branch in enumerate(row.branches) if branch in (0, number + 1)]
    return [row.input_ids[place] for place in mine], [row.position_ids[place] for place in mine]


@given(texts=TEXTS)
def test_every_passage_stands_whole_and_in_order_in_one_row(texts: list[list[int]]) -> None:
    found = {}
    for row in packed(passages(texts)):
        assert len(row.input_ids) == len(row.branches) == len(row.position_ids)
        for number, (index, passage) in enumerate(zip(row.indices, row.passages, strict=True)):
            ids, positions = read_back(row, number)
            assert ids == list(passage.input_ids)
            assert positions == list(range(len(ids)))
            assert row.input_ids[row.place(number, len(ids) - 1)] == ids[-1]
            assert row.position_ids[row.place(number, len(ids) - 1)] == len(ids) - 1
            found[index] = ids
    assert found == dict(enumerate(texts))


@given(texts=TEXTS)
def test_rows_are_no_longer_than_their_passages_and_keep_to_their_limit(texts: list[list[int]]) -> None:
    rows = packed(passages(texts))
    for row in rows:
        assert len(row.input_ids) <= sum(len(passage.input_ids) for passage in row.passages)
        assert len(row.passages) == 1 or len(row.input_ids) <= ROW_TOKENS


def test_what_is_shared_stands_once() -> None:
    (row,) = packed(passages([[1, 2, 3, 4], [1, 2, 3, 5, 6], [1, 2, 3]]))
    assert row.input_ids == (1, 2, 3, 4, 5, 6)
    assert row.shared == 3
    assert row.branches == (0, 0, 0, 2, 3, 3)
    assert row.position_ids == (0, 1, 2, 3, 3, 4)
    assert row.indices == (2, 0, 1)


def test_equal_passages_cost_nothing_more() -> None:
    (row,) = packed(passages([[1, 2, 3]] * 5))
    assert row.input_ids == (1, 2, 3)
    assert [row.place(number, 2) for number in range(5)] == [2] * 5


def test_passages_with_little_in_common_stay_apart() -> None:
    assert len(packed(passages([[1, *[2] * 20], [1, *[3] * 20]]))) == 2
    assert len(packed(passages([[1, 1, 1, *[2] * 20], [1, 1, 1, *[3] * 20]]))) == 1


def test_alone_every_passage_is_a_row() -> None:
    rows = alone(passages([[1, 2], [1, 2]]))
    assert [(row.indices, row.input_ids, row.branches) for row in rows] == [
        ((0,), (1, 2), (0, 0)),
        ((1,), (1, 2), (0, 0)),
    ]
