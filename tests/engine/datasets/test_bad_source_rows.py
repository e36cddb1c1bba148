"""Rows of the published data sets that cannot be asked, as a damaged copy of the source may hold them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError
from laser_sweep.sweep.jobs import Job
from laser_sweep.trial import TrialResult

from .answers import CLOSE
from .models import POSITIONS
from .rows import write_file
from .studies import Study, rows_in_order

Run = Callable[..., list[TrialResult]]

LONG = "a person of the text, " * 100
TOO_LONG = f"but the model reads {POSITIONS}"
Plan = Callable[[str, DatasetSpec], Job]


def rewrite(**changes: Any) -> Callable[[Any], None]:
    return lambda row: row["requested_rewrite"].update(changes)


def column(**changes: Any) -> Callable[[Any], None]:
    return lambda row: row.update(changes)


def _lengthen(record: Any) -> None:
    """All three prompts."""
    record["paraphrase_prompts"] = [LONG, LONG]
    record["requested_rewrite"]["subject"] = LONG


CASES: list[tuple[str, str, Callable[[Any], Any], str]] = [
    ("gptj", "counterfact", lambda row: row["paraphrase_prompts"].pop(), "1 paraphrases instead of 2"),
    ("gptj", "counterfact", rewrite(prompt=""), "there is no prompt"),
    ("gptj", "counterfact", column(requested_rewrite=None), "requested_rewrite is not an object"),
    ("llama2", "counterfact", rewrite(prompt="{} and {} are in"), "prompt '{} and {} are in'"),
    ("phi", "counterfact", rewrite(prompt="{name} is in"), "prompt '{name} is in'"),
    ("llama2", "counterfact", rewrite(target_true={"str": None, "id": "Q1"}), "there is no str"),
    ("llama2", "counterfact", _lengthen, TOO_LONG),
    ("roberta", "counterfact", rewrite(target_true={"str": "the poets", "id": "Q1"}), "'the poets' is not one token"),
    ("gptj", "hotpotqa", column(answer=None), "there is no answer"),
    ("roberta", "hotpotqa", column(question=" "), "there is no question"),
    ("llama2", "hotpotqa", column(question=LONG), TOO_LONG),
    ("gptj", "fever", column(label=7), "label '7' is none of"),
    ("roberta", "fever", column(claim=""), "there is no claim"),
    ("phi", "fever", column(claim=LONG), TOO_LONG),
    ("gptj", "bios_gender", column(gender=2), "gender '2' is none of"),
    ("llama2", "bios_gender", column(hard_text=None), "there is no hard_text"),
    ("gptj", "bios_profession", column(profession=28), "profession '28' is not"),
    ("phi", "bios_profession", column(hard_text=LONG), TOO_LONG),
    ("gptj", "truthfulqa", column(mc2_targets=None), "mc2_targets is not an object"),
    ("roberta", "truthfulqa", lambda row: row["mc2_targets"]["labels"].pop(), "mc2_targets has not one label"),
    ("phi", "truthfulqa", lambda row: row["mc2_targets"].update(labels=[[1]] * 9), "mc2_targets has not one label"),
    ("gptj", "truthfulqa", column(question=LONG), TOO_LONG),
    ("gptj", "epistemic_reasoning", column(targets=["neutral"]), "target 'neutral' is none of"),
    ("roberta", "causal_judgement", column(targets=[]), "there are 0 targets instead of 1"),
    ("llama2", "causal_judgement", column(inputs=LONG), TOO_LONG),
    ("llama2", "wikidata_qa", column(targets=[""]), "answer '' is empty"),
    ("gptj", "wikidata_qa", column(targets=[None]), "targets"),
    ("llama2", "truthfulqa", lambda row: row["mc2_targets"]["choices"].__setitem__(0, None), "choices"),
    ("llama2", "counterfact", lambda row: row["paraphrase_prompts"].__setitem__(1, None), "paraphrase_prompts"),
    ("roberta", "wikidata_qa", column(targets="Rome"), "targets is not a list"),
    ("phi", "web_of_lies", column(target="Maybe"), "target 'Maybe' is none of Yes, No"),
    ("roberta", "web_of_lies", column(input=None), "there is no input"),
]


def last_row(made: Study, rows: list[Mapping[str, Any]]) -> int:
    """The last row that is asked; of FEVER a new one at the end, whose claim stands in no other."""
    if made.name == "fever":
        rows.append({**rows[-1], "claim": "This claim is new."})
        return len(rows) - 1
    return max(asked.row for asked in made.questions)


@pytest.mark.parametrize(
    ("family", "name", "damage", "reason"), [pytest.param(*case, id=f"{case[0]}-{case[1]}-{case[3]}") for case in CASES]
)
def test_a_bad_row_of_a_source_is_refused_or_left_out(
    family: str,
    name: str,
    damage: Callable[[Any], Any],
    reason: str,
    study: Callable[..., Study],
    plan: Plan,
    run: Run,
    tmp_path: Path,
) -> None:
    made = study(family, name)
    rows = copy.deepcopy(rows_in_order(name, made.files))
    bad = last_row(made, rows)
    damage(rows[bad])
    file = str(write_file(tmp_path / "copy.jsonl", name, rows))

    with pytest.raises(RequestError, match=f"dataset={name} row {bad}: .*{re.escape(reason)}") as refused:
        plan(family, made.spec(path=file))
    assert "\n" not in str(refused.value)

    job = plan(family, made.spec(path=file, on_bad_row="skip"))
    assert {bad_row.row for bad_row in job.bad_rows} == {bad}
    assert reason in str(job.bad_rows[0])
    val, test = run(job.checkpoint, job.task, [("val", False), ("test", False)])
    assert [val.metrics.num_skipped, test.metrics.num_skipped] == [0, 1]  # rows, not the questions that they hold
    others = [asked for asked in made.questions if asked.row != bad]
    asked_again = {one.id: one for one in job.task.examples if one.row != bad}
    assert [(one.prompt, one.gold) for one in asked_again.values()] == [(one.prompt, one.gold) for one in others]
    figures = made.figures(others)
    for said in (val.predictions, test.predictions):
        places = [list(asked_again).index(example_id) for example_id in said.example_id]
        assert list(said.prediction) == [figures[place].prediction for place in places]
        assert said.correct.tolist() == [figures[place].correct for place in places]
        assert said.gold_log_prob == pytest.approx([figures[place].gold_log_prob for place in places], abs=CLOSE, rel=0)
    assert len(val.predictions.example_id) + len(test.predictions.example_id) == len(others)
