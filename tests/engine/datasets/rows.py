"""A few rows of each published data set, with the columns and in the files of their sources."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = Mapping[str, Any]
Files = dict[str, list[Row]]
"""Rows by the file of the source that holds them, in the order in which the files are read."""

COMMIT = "5b8a4b1c4f6d7e8a9b0c1d2e3f4a5b6c7d8e9f00"
REPOS = {
    "hotpotqa": "hotpotqa/hotpot_qa",
    "fever": "EleutherAI/fever",
    "bios_gender": "LabHC/bias_in_bios",
    "bios_profession": "LabHC/bias_in_bios",
    "truthfulqa": "truthfulqa/truthful_qa",
    "epistemic_reasoning": "tasksource/bigbench",
    "causal_judgement": "tasksource/bigbench",
    "wikidata_qa": "tasksource/bigbench",
    "web_of_lies": "lighteval/big_bench_hard",
}
DATASETS = ("counterfact", *REPOS)

_NAMES = ("Ada", "Bach", "Chopin", "Darwin", "Euler", "Fermi", "Gauss", "Hopper", "Ibsen", "Joule", "Kepler", "Ohm")
_THINGS = ("a composer", "an engineer", "from Oslo", "born in 1815", "a friend of Bach", "the author of a fugue", "old")
_CITIES = ("Rome", "Paris", "Berlin", "London", "Madrid", "Vienna")
_TEXTS = pa.list_(pa.string())
_BIGBENCH = pa.schema(
    {
        "inputs": pa.string(),
        "targets": _TEXTS,
        "multiple_choice_targets": _TEXTS,
        "multiple_choice_scores": pa.list_(pa.int32()),
        "idx": pa.int32(),
    }
)
_TARGETS = pa.struct({"choices": _TEXTS, "labels": pa.list_(pa.int32())})
_SCHEMAS = {
    **dict.fromkeys(("epistemic_reasoning", "causal_judgement", "wikidata_qa"), _BIGBENCH),
    "truthfulqa": pa.schema({"question": pa.string(), "mc1_targets": _TARGETS, "mc2_targets": _TARGETS}),
}


def source_rows(name: str) -> Files:
    """The rows of a data set, the same ones every time."""
    return _MAKERS[name](random.Random(name.partition("_")[0]))  # both tasks of Bias in Bios have the same rows


def write_hub(cache: Path, name: str, files: Files) -> None:
    """Files as a cache of the hub holds them after a download of `refs/convert/parquet`."""
    repo = cache / f"datasets--{REPOS[name].replace('/', '--')}"
    ref = repo / "refs" / "refs" / "convert" / "parquet"
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(COMMIT)
    for file, rows in files.items():
        path = repo / "snapshots" / COMMIT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, name, rows)


def write_file(path: Path, name: str, rows: Sequence[Row]) -> Path:
    """Rows in one file of the format that its suffix says; lists and objects are JSON in a CSV."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows), schema=_SCHEMAS.get(name)), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            for row in rows:
                nested = {key: json.dumps(value) for key, value in row.items() if isinstance(value, list | dict)}
                writer.writerow({**row, **nested})
    return path


def _counterfact(draw: random.Random) -> Files:
    """Records of the JSON file: some prompts end in a space, some paraphrases are the prompt again."""
    records = []
    for number in range(8):
        subject, (true, new) = _NAMES[number], draw.sample(_CITIES, 2)
        true = "river" if number % 4 == 2 else true
        prompt = draw.choice(["{} is a citizen of", "The capital of {} is", "{} is in "])
        again = prompt.format(subject)
        other = [f"What a river. {subject} is the teacher of ", f"The person {subject} was in the text:"]
        rewrite = {
            "prompt": prompt,
            "relation_id": f"P{27 + number % 3}",
            "target_new": {"str": new, "id": f"Q{number}"},
            "target_true": {"str": true, "id": f"Q{number + 100}"},
            "subject": subject,
        }
        records.append(
            {
                "case_id": number * 3,
                "pararel_idx": 2796 + number,
                "requested_rewrite": rewrite,
                "paraphrase_prompts": [again, again] if number % 2 else other,
                "neighborhood_prompts": [f"The machine of {subject} is a"] * 2,
                "attribute_prompts": [f"{subject} is in"] * 2,
                "generation_prompts": [f"{subject} is the"] * 2,
            }
        )
    return {"counterfact.json": records}


def _hotpotqa(draw: random.Random) -> Files:
    """The train split is longer than validation, and has a second file, which is not read."""

    def row(number: int) -> Row:
        stop = draw.choice(["?", "?", ".", "", " ? "])
        city = draw.choice(_CITIES)
        question = f"Was {draw.choice(_NAMES)} a {draw.choice(['poet', 'teacher', 'model'])} of {city}"
        answer = draw.choice(["yes", "no", "the river of the poets", " a composer ", "London"])
        if number % 3 == 2:
            answer = draw.choice([city, city.upper()])
        if number in (4, 8):  # of Llama's tokens 16, and 15
            answer = "the river is the text of a person the model in the following claim cause"
            answer = answer if number == 4 else answer.removesuffix(" cause")
        return {
            "id": f"5a{number:022d}",
            "question": question + stop,
            "answer": answer,
            "type": "comparison",
            "level": "hard",
            "supporting_facts": {"title": ["Somewhere"], "sent_id": [0]},
            "context": {"title": ["Somewhere"], "sentences": [["A sentence."]]},
        }

    train, more, validation = ([row(number) for number in range(count)] for count in (13, 4, 9))
    return {
        "fullwiki/train/0000.parquet": train,
        "fullwiki/train/0001.parquet": more,
        "fullwiki/validation/0000.parquet": validation,
    }


def _fever(draw: random.Random) -> Files:
    """A claim has a row for each piece of evidence; some have two labels."""
    texts = draw.sample([f"{name} is {thing}" for name in _NAMES for thing in _THINGS], 24)

    def rows(claims: Sequence[str]) -> list[Row]:
        made: list[Row] = []
        for number, text in enumerate(claims):
            claim = text + draw.choice([".", ".", "", "?", " .", "!"]) + draw.choice(["", "", " "])
            label = draw.randint(0, 1)
            for one in [label] * draw.randint(1, 3) + [1 - label] * (number % 6 == 4):
                made.append({"id": 0, "label": one, "claim": claim, "evidence_wiki_url": "Somewhere"})
        draw.shuffle(made)
        return [{**row, "id": number} for number, row in enumerate(made)]

    return {"v1.0/paper_dev/0000.parquet": rows(texts[:12]), "v1.0/paper_test/0000.parquet": rows(texts[12:])}


def _bios(draw: random.Random) -> Files:
    """Biographies shorter and longer than 50 tokens, some of other professions, in a split of two files."""
    kept = (11, 20, 5, 12, 26, 1, 14, 21)
    rows = []
    for number in range(24):
        facts = draw.sample(_THINGS, draw.randint(1, 6))
        text = " ".join(f"{draw.choice(['He', 'She'])} is {fact}{draw.choice(['.', ', and'])}" for fact in facts)
        rows.append(
            {
                "hard_text": draw.choice(["", " "]) + text + draw.choice([".", "?", "", " "]),
                "profession": draw.choice(kept) if number % 5 else draw.choice([0, 2, 27]),
                "gender": draw.randint(0, 1),
            }
        )
    return {"default/dev/0000.parquet": rows[:15], "default/dev/0001.parquet": rows[15:]}


def _truthfulqa(draw: random.Random) -> Files:
    rows = []
    for name in _NAMES[:7]:
        statements = [f"{name} is {thing}" for thing in draw.sample(_THINGS, draw.randint(2, 4))]
        choices = [text + draw.choice([".", "", "", "?", "!"]) for text in statements]
        labels = [1, *(draw.randint(0, 1) for _ in choices[1:])]
        only = {"choices": choices, "labels": [1] + [0] * (len(choices) - 1)}
        rows.append(
            {
                "question": f"What is {name}?",
                "mc1_targets": only,
                "mc2_targets": {"choices": choices, "labels": labels},
            }
        )
    return {"multiple_choice/validation/0000.parquet": rows}


def _bigbench(config: str, make: Callable[[random.Random, int], tuple[str, list[str], list[str]]]) -> Any:
    """Validation is a fourth of train."""

    def files(draw: random.Random) -> Files:
        rows = []
        for number in range(20):
            inputs, targets, choices = make(draw, number)
            scores = [int(choice in targets) for choice in choices]
            rows.append(
                {
                    "inputs": inputs,
                    "targets": targets,
                    "multiple_choice_targets": choices,
                    "multiple_choice_scores": scores,
                    "idx": number,
                }
            )
        return {f"{config}/validation/0000.parquet": rows[:4], f"{config}/train/0000.parquet": rows[4:]}

    return files


def _premise(draw: random.Random, number: int) -> tuple[str, list[str], list[str]]:
    first, second = draw.sample(_NAMES, 2)
    premise = f"{first} {draw.choice(['assumes', 'knows'])} that {second} is {draw.choice(_THINGS)}."
    choices = ["entailment", "non-entailment"]
    return f"Premise: {premise} Hypothesis: {second} is old.\nRelation:", [draw.choice(choices)], choices


def _cause(draw: random.Random, number: int) -> tuple[str, list[str], list[str]]:
    story = f"{draw.choice(_NAMES)} and a machine. Did the machine cause {draw.choice(_THINGS)}?"
    return f"{story}\n  choice: Yes\n  choice: No\nAnswer:", [draw.choice(["Yes", "No"])], ["Yes", "No"]


def _fact(draw: random.Random, number: int) -> tuple[str, list[str], list[str]]:
    """Some rows have several targets or none, some texts have space around them."""
    thing = draw.choice(["capital", "river"])
    prompt = f"{draw.choice(['', ' '])}The {thing} of {_NAMES[number % 12]} is"
    targets = draw.sample([*_CITIES, " the poets "], {3: 2, 11: 0}.get(number, 1))
    if number % 3 == 2 and targets:
        targets = [thing.title()]
    return prompt + draw.choice(["", "", " "]), targets, []


def _web_of_lies(draw: random.Random) -> Files:
    def question() -> str:
        first, second = draw.sample(_NAMES, 2)
        verbs = [draw.choice(["lies", "tells the truth"]) for _ in range(2)]
        return f"Question: {first} {verbs[0]}. {second} says {first} {verbs[1]}. Does {second} tell the truth?"

    rows = [{"input": question(), "target": draw.choice(["Yes", "No"])} for _ in range(18)]
    return {"web_of_lies/train/0000.parquet": rows}


_MAKERS: dict[str, Callable[[random.Random], Files]] = {
    "counterfact": _counterfact,
    "hotpotqa": _hotpotqa,
    "fever": _fever,
    "bios_gender": _bios,
    "bios_profession": _bios,
    "truthfulqa": _truthfulqa,
    "epistemic_reasoning": _bigbench("epistemic_reasoning", _premise),
    "causal_judgement": _bigbench("causal_judgment", _cause),
    "wikidata_qa": _bigbench("qa_wikidata", _fact),
    "web_of_lies": _web_of_lies,
}
