from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.engine.tasks.example import AskedModel, BadRow, Example
from laser_sweep.engine.tasks.fever import examples, prompt
from laser_sweep.engine.tasks.spec import DatasetSpec, HubSource
from laser_sweep.errors import RequestError

CAUSAL, MASKED = (AskedModel(family, lambda: pytest.fail("no tokenizer is needed")) for family in ("causal", "masked"))
WriteRows = Callable[[str, list[dict[str, Any]]], Path]


def read(file: Path, ask: AskedModel = CAUSAL) -> list[Example | BadRow]:
    return list(examples(DatasetSpec(name="fever", format="fever", path=str(file)), ask))


def claims(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"claim": claim, "label": label, "evidence": 7} for claim, label in pairs]


@pytest.mark.parametrize(
    ("claim", "asked"),
    [
        ("Rome is a city", "Consider the following claim: Rome is a city. Is this claim true or false. The claim is"),
        ("Rome is a city.", "Consider the following claim: Rome is a city. Is this claim true or false. The claim is"),
        ("Is Rome a city?", "Consider the following claim: Is Rome a city? Is this claim true or false. The claim is"),
        ("Rome!", "Consider the following claim: Rome!. Is this claim true or false. The claim is"),
        (
            "  Rome is a city. \n",
            "Consider the following claim: Rome is a city. Is this claim true or false. The claim is",
        ),
    ],
)
def test_a_claim_is_asked_in_the_published_words(claim: str, asked: str) -> None:
    assert prompt(claim) == asked


@given(claim=st.text())
def test_every_claim_ends_in_one_stop_and_the_prompt_in_no_space(claim: str) -> None:
    stripped = claim.strip()
    body = stripped if stripped.endswith((".", "?")) else stripped + "."
    assert prompt(claim) == f"Consider the following claim: {body} Is this claim true or false. The claim is"


@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "csv"])
def test_label_1_is_true_and_label_0_is_false(suffix: str, write_rows: WriteRows) -> None:
    found: Any = read(write_rows(f"fever.{suffix}", claims(("A", 1), ("B", 0))))
    assert [(e.id, e.prompt, e.gold, e.choices) for e in found] == [
        ("0", prompt("A"), "true", ("true", "false")),
        ("1", prompt("B"), "false", ("true", "false")),
    ]


def test_labels_may_be_spelled_out(write_rows: WriteRows) -> None:
    found: Any = read(write_rows("fever.jsonl", claims(("A", "SUPPORTS"), ("B", "REFUTES"))))
    assert [e.gold for e in found] == ["true", "false"]


def test_a_claim_of_several_rows_is_one_example_where_it_first_appeared(write_rows: WriteRows) -> None:
    rows = claims(("B", 1), ("A", 0), ("B", 1), ("C", 1), ("A", 0), ("B", 1))
    found: Any = read(write_rows("fever.parquet", rows))
    assert [(e.id, e.prompt, e.gold) for e in found] == [
        ("0", prompt("B"), "true"),
        ("1", prompt("A"), "false"),
        ("2", prompt("C"), "true"),
    ]


def test_a_claim_with_two_labels_is_left_out(write_rows: WriteRows) -> None:
    rows = claims(("A", 1), ("B", 0), ("C", 1), ("B", 1), ("D", 0))
    found: Any = read(write_rows("fever.parquet", rows))
    assert [(e.id, e.prompt) for e in found] == [("0", prompt("A")), ("1", prompt("C")), ("2", prompt("D"))]


@pytest.mark.parametrize("label", ["NOT ENOUGH INFO", "true", "01"])
def test_a_label_that_is_neither_is_reported_with_its_row(label: str, write_rows: WriteRows) -> None:
    rows = claims(("A", "SUPPORTS"), ("B", "REFUTES"), ("C", label))
    *others, bad = sorted(read(write_rows("fever.jsonl", rows)), key=lambda made: isinstance(made, BadRow))
    assert bad == BadRow(2, f"label {label!r} is none of 0, 1, REFUTES, SUPPORTS")
    assert len(others) == 2


@pytest.mark.parametrize("label", [2, -1])
def test_a_number_that_is_no_label_is_reported_with_its_row(label: int, write_rows: WriteRows) -> None:
    bad = BadRow(1, f"label '{label}' is none of 0, 1, REFUTES, SUPPORTS")
    assert bad in read(write_rows("fever.parquet", claims(("A", 1), ("B", label))))


def test_a_file_without_labels_is_reported(write_rows: WriteRows) -> None:
    file = write_rows("fever.parquet", [{"claim": "A", "verdict": 1}])
    with pytest.raises(RequestError, match=rf"^dataset\.path={file} lacks the column label; it has claim, verdict"):
        read(file)


def test_the_hub_files_are_read_dev_before_test(
    write_rows: WriteRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = "datasets--EleutherAI--fever"
    write_rows(f"{repository}/snapshots/{commit}/v1.0/paper_test/0000.parquet", claims(("T", 0)))
    write_rows(f"{repository}/snapshots/{commit}/v1.0/paper_dev/0001.parquet", claims(("D2", 0), ("D1", 1)))
    write_rows(f"{repository}/snapshots/{commit}/v1.0/paper_dev/0000.parquet", claims(("D1", 1)))
    reference = tmp_path / repository / "refs" / "refs" / "convert" / "parquet"
    reference.parent.mkdir(parents=True)
    reference.write_text(commit)
    source = HubSource(
        repo="EleutherAI/fever",
        revision="refs/convert/parquet",
        files=("v1.0/paper_dev/*.parquet", "v1.0/paper_test/*.parquet"),
    )
    found = examples(DatasetSpec(name="fever", format="fever", hub=source), CAUSAL)
    assert [(e.prompt, e.gold) for e in found] == [
        (prompt("D1"), "true"),
        (prompt("D2"), "false"),
        (prompt("T"), "false"),
    ]


def test_a_masked_model_fills_in_the_answer(write_rows: WriteRows) -> None:
    (found,) = read(write_rows("fever.parquet", claims(("A", 1))), MASKED)
    assert found.prompt == f"{prompt('A')} <mask>"
