"""TruthfulQA as LASER uses it: is a question with one of its answers a true statement (Lin et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator

from laser_sweep.engine.tasks.example import MASK, AskedModel, BadRow, Example
from laser_sweep.engine.tasks.fever import CHOICES
from laser_sweep.engine.tasks.source import BadRowError, Row, nested, parse, read_rows, text_of, texts_of
from laser_sweep.engine.tasks.spec import DatasetSpec

_GOLD = {0: "false", 1: "true"}


def examples(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `question` and `mc2_targets` (choices, labels 1 for true and 0 for false): one example for each choice.

    The published code puts no space behind the statement, and a period also behind `?` and `!`.
    """
    end = f" {MASK}" if model.family == "masked" else ""

    def make(number: int, row: Row) -> Iterator[Example]:
        targets = nested(row, "mc2_targets", dict)
        answers, labels = texts_of(targets, "choices"), nested(targets, "labels", list)
        if len(answers) != len(labels) or not all(label in (0, 1) for label in labels):
            raise BadRowError("mc2_targets has not one label, 0 or 1, for each choice")
        question = text_of(row, "question")
        for place, (answer, label) in enumerate(zip(answers, labels, strict=True)):
            statement = f"{question} {answer}"
            if spec.published:
                statement += "" if statement.endswith(".") else "."
            else:
                statement = f"{statement.rstrip()}{'' if statement.rstrip().endswith(('.', '?', '!')) else '.'} "
            yield Example(
                id=f"{number}/{place}",
                row=number,
                prompt=f"{statement}Is this statement true or false? This statement is{end}",
                gold=_GOLD[label],
                choices=CHOICES,
            )

    return parse(read_rows(spec, columns=("question", "mc2_targets")), make)
