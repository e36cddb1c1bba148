"""A data set as one model meets it: its rows, some of whose answers the model gives, the questions, the figures."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pydantic import TypeAdapter

from laser_sweep.engine.tasks.spec import DatasetSpec

from .answers import Figures, OneByOne
from .prompts import Asked, Asking, Kind, kind_of, max_new_tokens
from .rows import Files, Row, source_rows

CONF = Path(__file__).parents[3] / "conf" / "dataset"


def shipped_spec(dataset: str, /, **changes: Any) -> DatasetSpec:
    """What conf/dataset/DATASET.yaml says, with overrides."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / f"{dataset}.yaml"))
    assert isinstance(values, dict)
    spec: DatasetSpec = TypeAdapter(DatasetSpec).validate_python({**values, **changes})
    return spec


@dataclass(frozen=True)
class Study:
    """One data set for one family. `questions` are in the order in which they are asked."""

    name: str
    family: str
    files: Files
    questions: tuple[Asked, ...]
    published: bool
    one_by_one: Callable[..., OneByOne]
    memory: dict[tuple[bool, str], Figures] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return kind_of(self.name, self.family)

    def spec(self, **changes: Any) -> DatasetSpec:
        compat = {"compat": "published"} if self.published else {}
        return shipped_spec(self.name, **compat, **changes)

    def part(self, split: str) -> list[Asked]:
        """`val` is the first int(0.2 N) in order and `test` the rest."""
        cut = int(0.2 * len(self.questions))
        return list(self.questions[:cut] if split == "val" else self.questions[cut:])

    def figures(self, questions: Sequence[Asked], *, edited: bool = False) -> list[Figures]:
        ask = partial(
            self.one_by_one(self.family, edited=edited).figures,
            kind=self.kind,
            new_tokens=max_new_tokens(self.name),
            published=self.published,
        )
        for asked in questions:
            if (edited, asked.id) not in self.memory:
                self.memory[edited, asked.id] = ask(asked)
        return [self.memory[edited, asked.id] for asked in questions]


def rows_in_order(name: str, files: Files) -> list[Row]:
    """The rows that are read, in the order in which they are counted."""
    if name == "hotpotqa":
        train, _, validation = files.values()
        return [*train[: len(validation)], *validation]
    return list(chain(*files.values()))


def answered(name: str, asking: Asking, model: OneByOne) -> Files:
    """The rows of a data set; where random answers would all be wrong, some become what the model says."""
    files = copy.deepcopy(source_rows(name))
    if name not in ("counterfact", "hotpotqa", "wikidata_qa"):
        return files
    kind = kind_of(name, asking.family)
    rows: list[Any] = list(rows_in_order(name, files))
    for asked in asking.questions(name, files):
        if asked.group is not None and not asked.id.endswith("/0"):
            continue
        if kind == "token":
            gold = _probable_word(model, asked.prompt, (0, 0, None, 2, 5)[asked.row % 5])
        else:
            gold = _written_words(model.text(model.write(asked.prompt, max_new_tokens(name))), asked.row)
        if gold is not None:
            _set_answer(name, rows[asked.row], gold)
    return files


def _probable_word(model: OneByOne, prompt: str, place: int | None) -> str | None:
    """The word at a place among those that are one token, from the most probable."""
    if place is None:
        return None
    order = model.at_answer(prompt).argsort(descending=True).tolist()
    texts = [(token, model.text([token])) for token in order]
    words = [text.strip() for _, text in texts if re.fullmatch(" [A-Za-z]{3,}", text)]
    return words[place]


def _written_words(text: str, number: int) -> str | None:
    """A word or two of a text, in upper case here and there; of every third text none."""
    words = re.findall(r"\b[A-Za-z]{2,}(?: [A-Za-z]{2,})?\b", text)
    if number % 3 == 2 or not words:
        return None
    word = str(words[number % len(words)])
    return word.title() if number % 2 else word


def _set_answer(name: str, row: Any, gold: str) -> None:
    if name == "hotpotqa":
        row["answer"] = gold
    elif name == "counterfact":
        row["requested_rewrite"]["target_true"]["str"] = gold
    elif len(row["targets"]) == 1:
        row["targets"] = [gold]
