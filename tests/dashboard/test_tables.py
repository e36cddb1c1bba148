"""Tables: what a browser may ask of them, and what it gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.dashboard import tables
from laser_sweep.dashboard.rows import asked_for, on_screen, records
from laser_sweep.dashboard.url import View

from ..measured import done, failed, right, rows, trial

COLUMNS = [tables.text("name", "name"), tables.number("accuracy", "accuracy")]
FRAME = pd.DataFrame({"name": ["Ada", "Bob", "", "ada b"], "accuracy": [10.0, 50.0, float("nan"), 90.0]})


def kept(condition: dict[str, Any], column: str) -> list[int]:
    return list(asked_for(FRAME, {"filterModel": {column: condition}, "startRow": 0, "endRow": 100})[0].index)


@pytest.mark.parametrize(
    ("operation", "wanted", "found"),
    [
        ("contains", "ada", [0, 3]),
        ("notContains", "ADA", [1, 2]),
        ("equals", "bob", [1]),
        ("notEqual", "bob", [0, 2, 3]),
        ("startsWith", "ada", [0, 3]),
        ("endsWith", "B", [1, 3]),
        ("contains", "(", []),
        ("blank", None, [2]),
        ("notBlank", None, [0, 1, 3]),
    ],
)
def test_filters_of_text(operation: str, wanted: str | None, found: list[int]) -> None:
    assert kept({"filterType": "text", "type": operation, "filter": wanted}, "name") == found


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"type": "greaterThan", "filter": 10}, [1, 3]),
        ({"type": "greaterThanOrEqual", "filter": 10}, [0, 1, 3]),
        ({"type": "lessThan", "filter": 50}, [0]),
        ({"type": "lessThanOrEqual", "filter": 50}, [0, 1]),
        ({"type": "equals", "filter": 50}, [1]),
        ({"type": "inRange", "filter": 10, "filterTo": 90}, [1]),
        ({"type": "blank"}, [2]),
        ({"type": "notBlank"}, [0, 1, 3]),
    ],
)
def test_filters_of_numbers(condition: dict[str, Any], found: list[int]) -> None:
    assert kept({"filterType": "number", **condition}, "accuracy") == found


def test_two_conditions_are_joined() -> None:
    two = [
        {"filterType": "number", "type": "lessThan", "filter": 20},
        {"filterType": "number", "type": "greaterThan", "filter": 80},
    ]
    assert kept({"filterType": "number", "operator": "OR", "conditions": two}, "accuracy") == [0, 3]
    assert kept({"filterType": "number", "operator": "AND", "conditions": two}, "accuracy") == []


def test_rows_come_sorted_and_a_stretch_at_a_time() -> None:
    request = {"startRow": 1, "endRow": 3, "sortModel": [{"colId": "accuracy", "sort": "desc"}], "filterModel": {}}
    found, number = asked_for(FRAME, request)
    assert (list(found["accuracy"]), number) == ([50.0, 10.0], 4)
    found, _ = asked_for(FRAME, {**request, "sortModel": [{"colId": "nothing", "sort": "asc"}]})
    assert list(found.index) == [1, 2]


@given(
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["name", "accuracy", "filterType", "type", "filter", "conditions", "operator"]), inner
            )
        ),
    ).map(json.dumps)
)
def test_whatever_stands_for_the_filters_of_a_table_only_what_it_can_apply_is_kept(columns: str) -> None:
    model, wrong = tables.column_filters(View(columns=columns), COLUMNS)
    asked_for(FRAME, {"filterModel": model, "startRow": 0, "endRow": 10})
    assert bool(model) or bool(wrong) or json.loads(columns or "{}") == {}


def test_a_filter_that_a_table_wrote_comes_back() -> None:
    model = {"name": {"filterType": "text", "type": "contains", "filter": "a"}}
    assert tables.column_filters(View(columns=json.dumps(model)), COLUMNS) == (model, [])


def test_a_column_that_is_not_there_cannot_be_sorted_by() -> None:
    assert tables.sorting(View(sort="-accuracy"), COLUMNS) == (("accuracy", True), [])
    assert tables.sorting(View(sort="name"), COLUMNS) == (("name", False), [])
    assert tables.sorting(View(sort="-speed"), COLUMNS) == (None, ["sort=-speed: this table has no column speed"])


def test_a_value_that_is_filtered_by_already_is_no_link() -> None:
    column = tables.text("model", "model")
    assert tables.filtering(column, View(page="trials"))["cellRendererParams"]["href"] == "/trials?model="
    assert tables.filtering(column, View(filters=View().filters.toggled("model", "gptj"))) == column


def test_trials_are_written_as_a_person_reads_them(tmp_path: Path) -> None:
    untouched = right(50)
    stored = rows(
        tmp_path,
        [
            done(trial(), untouched),
            done(trial(("fc_in", 3, 0.05)), right(60), untouched),
            failed(trial(("fc_in", 0, 0.1), ("fc_in", 1, 0.1), tau="fc_in", all_layers=True), "no memory"),
        ],
    )
    shown = {row["place"]: row for row in records(on_screen(stored), stored)}
    edited = shown["fc_in[3] ρ 0.05"]
    assert (edited["accuracy"], edited["gain"], edited["layer"], edited["rho"]) == (60.0, pytest.approx(10), 3, 0.05)
    assert shown["the untouched model"]["layer"] is None
    assert shown["fc_in[all] ρ 0.1"]["layer"] == "all"
    assert shown["fc_in[all] ρ 0.1"]["accuracy"] is None
    json.dumps(list(shown.values()), allow_nan=False)
