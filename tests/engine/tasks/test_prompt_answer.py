from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.engine.tasks.example import AskedModel, BadRow, Example
from laser_sweep.engine.tasks.prompt_answer import examples
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.trial import Family

WriteRows = Callable[[str, list[dict[str, Any]]], Path]


def read(file: Path, family: Family = "causal", **options: Any) -> list[Any]:
    model = AskedModel(family, lambda: pytest.fail("no tokenizer is needed"))
    return list(examples(DatasetSpec(name="facts", format="prompt_answer", path=str(file), **options), model))


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "json", "csv"])
def test_prompts_and_answers_are_read_in_order_from_every_format(suffix: str, write_rows: WriteRows) -> None:
    rows = [{"prompt": f"The capital, of {i} is", "answer": city} for i, city in enumerate(("Rome", "Oslo", "Rome"))]
    assert read(write_rows(f"facts.{suffix}", rows)) == [
        Example(id="0", prompt="The capital, of 0 is", gold="Rome"),
        Example(id="1", row=1, prompt="The capital, of 1 is", gold="Oslo"),
        Example(id="2", row=2, prompt="The capital, of 2 is", gold="Rome"),
    ]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_group_and_frequency_are_read_where_the_file_has_them(suffix: str, write_rows: WriteRows) -> None:
    rows = [
        {"prompt": "p", "answer": "a", "group": "g1", "frequency": 12},
        {"prompt": "q", "answer": "b", "group": "g2", "frequency": 0},
    ]
    found = read(write_rows(f"facts.{suffix}", rows))
    assert [(e.group, e.frequency) for e in found] == [("g1", 12.0), ("g2", 0.0)]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_a_missing_group_or_frequency_of_one_row_is_none(suffix: str, write_rows: WriteRows) -> None:
    rows = [
        {"prompt": "p", "answer": "a", "group": None, "frequency": None},
        {"prompt": "q", "answer": "b", "group": "g2", "frequency": 3},
    ]
    found = read(write_rows(f"facts.{suffix}", rows))
    assert [(e.group, e.frequency) for e in found] == [(None, None), ("g2", 3.0)]


def test_an_answer_that_is_a_number_is_read_as_its_digits(write_rows: WriteRows) -> None:
    found = read(write_rows("facts.parquet", [{"prompt": "p", "answer": 1969}]))
    assert found[0].gold == "1969"


@pytest.mark.parametrize("words", [("true", "false"), ("NA", "yes"), ("null", "yes"), ("007", "008"), ("1.50", "2")])
def test_an_answer_in_a_csv_file_is_the_text_that_stands_there(words: tuple[str, ...], write_rows: WriteRows) -> None:
    rows = [{"prompt": f"p{i}", "answer": word} for i, word in enumerate(words)]
    assert tuple(e.gold for e in read(write_rows("facts.csv", rows))) == words


def test_an_answer_that_looks_like_a_date_is_the_text_that_stands_there(write_rows: WriteRows) -> None:
    found = read(write_rows("facts.jsonl", [{"prompt": "p", "answer": "1969-07-20"}]))
    assert found[0].gold == "1969-07-20"


@pytest.mark.parametrize("column", ["prompt", "answer"])
def test_a_row_without_prompt_or_answer_is_reported(column: str, write_rows: WriteRows) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "p", "answer": "a"}, {"prompt": "q", "answer": "b", column: None}]
    good, bad = read(write_rows("facts.jsonl", rows))
    assert good.gold == "a"
    assert bad == BadRow(1, f"there is no {column}")


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_choices_stand_in_the_row_and_the_answer_is_one_of_them_or_its_place(
    suffix: str, write_rows: WriteRows
) -> None:
    choices: Any = ["yes", "no", "7"]
    rows = [
        {"prompt": "p", "answer": answer, "choices": json.dumps(choices) if suffix == "csv" else choices}
        for answer in ("no", "0", "7", "maybe", "3")
    ]
    *good, word, number = read(write_rows(f"facts.{suffix}", rows))
    assert [(e.gold, e.choices) for e in good] == [(gold, ("yes", "no", "7")) for gold in ("no", "yes", "7")]
    assert word == BadRow(3, "answer 'maybe' is none of yes, no, 7")
    assert number == BadRow(4, "answer '3' is none of yes, no, 7")


def test_choices_of_the_data_set_are_those_of_rows_without_their_own(write_rows: WriteRows) -> None:
    rows = [{"prompt": "p", "answer": "b", "choices": ["a", "b"]}, {"prompt": "p", "answer": "d", "choices": None}]
    found = read(write_rows("facts.jsonl", rows), choices=("c", "d"))
    assert [(e.gold, e.choices) for e in found] == [("b", ("a", "b")), ("d", ("c", "d"))]


def test_choices_that_are_no_list_and_frequencies_that_are_no_number_are_bad_rows(write_rows: WriteRows) -> None:
    rows = [
        {"prompt": "p", "answer": "b", "choices": "a or b"},
        {"prompt": "p", "answer": "b", "frequency": "often"},
    ]
    assert read(write_rows("facts.jsonl", rows)) == [
        BadRow(0, "choices is not a list, but 'a or b'"),
        BadRow(1, "frequency 'often' is not a number"),
    ]


def test_a_masked_model_fills_in_the_end_or_where_the_prompt_says(write_rows: WriteRows) -> None:
    rows = [{"prompt": text, "answer": "a"} for text in ("The end is", "It <mask> so", "A space ")]
    file = write_rows("facts.jsonl", rows)
    assert [e.prompt for e in read(file, "masked")] == ["The end is <mask>.", "It <mask> so", "A space <mask>."]
    # answers of several tokens are masked by themselves
    assert read(file, "masked", choices=("a", "b"))[0].prompt == "The end is"
    assert read(file, "masked", scoring="generation")[0].prompt == "The end is"
