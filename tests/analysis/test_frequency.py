"""The gain by how often a fact stands in the training data."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.analysis.flips import flips
from laser_sweep.analysis.frequency import gain_by_frequency, join_counts
from laser_sweep.errors import RequestError

MakePredictions = Callable[..., pd.DataFrame]
MakeTable = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def make_table(make_predictions: MakePredictions) -> MakeTable:
    def make(before: list[bool], after: list[bool], frequency: list[float], **columns: object) -> pd.DataFrame:
        """A table of flips of examples that were and are right or not."""
        gold = columns.pop("gold", ["x"] * len(before))
        tables = [
            make_predictions(
                [right if ok else "the" for ok, right in zip(correct, gold, strict=True)],
                gold,
                frequency=frequency,
                **columns,
            )
            for correct in (after, before)
        ]
        return flips(*tables)

    return make


@given(
    rows=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.0, 1.0, 2.0, 5.0, 40.0, 1e9, math.nan])),
        min_size=1,
        max_size=60,
    ),
    bins=st.integers(1, 8),
)
def test_bins_part_the_examples_by_frequency_and_each_has_the_paired_gain_of_its_own(
    rows: list[tuple[bool, bool, float]], bins: int, make_table: MakeTable
) -> None:
    before, after, frequency = (list(column) for column in zip(*rows, strict=True))
    table = make_table(before, after, frequency)
    known = [row for row in rows if not math.isnan(row[2])]
    if not known:
        with pytest.raises(ValueError, match="no example has a frequency"):
            gain_by_frequency(table, bins)
        return
    found = gain_by_frequency(table, bins)
    assert list(found.columns) == ["low", "high", "count", "gain", "stderr"]
    assert 1 <= len(found) <= bins
    assert found["count"].sum() == len(known)
    assert (found["low"].to_numpy()[1:] > found["high"].to_numpy()[:-1]).all()  # no frequency is in two bins
    for row in found.itertuples():
        inside = [(was, now) for was, now, at in known if row.low <= at <= row.high]
        assert len(inside) == row.count
        differences = [now - was for was, now in inside]
        assert row.gain == pytest.approx(np.mean(differences))
        assert row.stderr == pytest.approx(np.std(differences) / math.sqrt(len(inside)))


@given(count=st.integers(1, 200), bins=st.integers(1, 20), seed=st.integers(0, 9))
def test_where_all_frequencies_differ_bins_have_equal_counts(
    count: int, bins: int, seed: int, make_table: MakeTable
) -> None:
    frequency = list(np.random.default_rng(seed).permutation(count).astype(float))
    found = gain_by_frequency(make_table([True] * count, [True] * count, frequency), bins)
    assert len(found) == min(bins, count)
    assert found["count"].max() - found["count"].min() <= 1


def test_ties_stay_together_and_the_rest_is_cut_as_evenly_as_that_allows(make_table: MakeTable) -> None:
    frequency = [1.0] * 6 + [2.0, 3.0, 4.0, 5.0] + [9.0] * 2
    found = gain_by_frequency(make_table([False] * 12, [True] * 12, frequency), 3)
    assert found[["low", "high", "count"]].to_numpy().tolist() == [[1, 1, 6], [2, 3, 2], [4, 9, 4]]


def test_a_gain_that_only_rare_facts_have_shows(make_table: MakeTable) -> None:
    """20 rare facts, of which 8 more are right and 2 fewer; 20 common ones that stay as they were."""
    before = [False] * 8 + [True] * 2 + [False] * 10 + [True] * 15 + [False] * 5
    after = [True] * 8 + [False] * 2 + [False] * 10 + [True] * 15 + [False] * 5
    found = gain_by_frequency(make_table(before, after, [3.0] * 20 + [800.0] * 20), 2)
    assert found["gain"].tolist() == [pytest.approx(0.3), 0.0]
    assert found["stderr"].tolist() == [pytest.approx(math.sqrt((10 / 20 - 0.3**2) / 20)), 0.0]


@pytest.mark.parametrize("bins", [0, -1])
def test_no_bins_are_refused(bins: int, make_table: MakeTable) -> None:
    with pytest.raises(ValueError, match=f"bins={bins} is too small"):
        gain_by_frequency(make_table([True], [True], [1.0]), bins)


# Counts from a file

GOLD = ["Rome", "Oslo", "Rome", "Lima"]


@pytest.fixture
def table(make_table: MakeTable) -> pd.DataFrame:
    return make_table([True] * 4, [True] * 4, [math.nan] * 4, gold=GOLD, subject=["Ada", "Bo", None, " Cy "])


@pytest.mark.parametrize("column", ["frequency", "count"])
@pytest.mark.parametrize(
    ("key", "counted", "expected"),
    [
        ("example_id", {"0": 4, "1": 0, "3": 7.5, "99": 1}, [4, 0, None, 7.5]),
        ("subject", {"Ada": 4, "Cy": 12, "Dee": 1}, [4, None, None, 12]),
        ("gold", {"Rome": 1000, "Oslo": 7}, [1000, 7, 1000, None]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_counts_are_joined_by_the_column_that_the_file_has(
    suffix: str,
    key: str,
    counted: dict[str, float],
    expected: list[float | None],
    column: str,
    table: pd.DataFrame,
    tmp_path: Path,
) -> None:
    frame = pd.DataFrame({"source": "the Pile", key: list(counted), column: list(counted.values())})
    file = tmp_path / f"counts.{suffix}"
    {
        "csv": lambda: frame.to_csv(file, index=False),
        "parquet": lambda: frame.to_parquet(file),
        "jsonl": lambda: frame.to_json(file, orient="records", lines=True),
    }[suffix]()
    joined = join_counts(table, str(file))
    assert (joined.key, joined.column) == (key, column)
    assert joined.found == sum(value is not None for value in expected)
    assert [None if math.isnan(value) else value for value in joined.table["frequency"]] == expected
    assert joined.table.drop(columns="frequency").equals(table.drop(columns="frequency"))
    assert table["frequency"].isna().all()  # what was given is left as it was


def test_a_key_that_the_examples_do_not_have_is_passed_over(
    table: pd.DataFrame, make_table: MakeTable, tmp_path: Path
) -> None:
    file = tmp_path / "counts.csv"
    file.write_text("subject,gold,count\nAda,Rome,3\nBo,Oslo,5\n")
    assert join_counts(table, str(file)).key == "subject"
    without = make_table([True] * 2, [True] * 2, [1.0, 1.0], gold=["Rome", "Oslo"])
    joined = join_counts(without, str(file))
    assert (joined.key, joined.found) == ("gold", 2)
    assert list(joined.table["frequency"]) == [3, 5]  # in the place of the data set's own


def test_counts_of_something_else_are_refused_with_examples_of_both(table: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    file.write_text("gold,count\nParis,3\nBonn,5\n")
    with pytest.raises(
        RequestError, match=r"counts no gold of these examples: it has Paris, Bonn, they have Rome, Oslo"
    ):
        join_counts(table, str(file))
