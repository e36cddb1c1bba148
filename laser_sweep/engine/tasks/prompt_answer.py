"""Any file of prompts and answers: the answer is the token that follows the prompt, of all tokens or of the choices."""

from __future__ import annotations

from collections.abc import Iterator

from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.source import number_of, read_rows, text_of
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError, listing


def examples(spec: DatasetSpec) -> Iterator[Example]:
    """Columns `prompt` and `answer`, and, where the file has them, `choices`, `group` and `frequency`.

    With choices the answer is one of them, or the place of one, counted from 0. Raises RequestError, naming the row.
    """
    for index, row in enumerate(read_rows(spec, columns=("prompt", "answer"))):
        choices = tuple(str(choice) for choice in row.get("choices") or ())
        gold = text_of(row, "answer", index, spec)
        if choices and gold not in choices:
            if not gold.isdecimal() or int(gold) >= len(choices):
                raise RequestError(f"dataset={spec.name} row {index}: answer {gold!r} is none of {listing(choices)}")
            gold = choices[int(gold)]
        group, frequency = row.get("group"), row.get("frequency")
        yield Example(
            id=str(index),
            prompt=text_of(row, "prompt", index, spec),
            gold=gold,
            choices=choices,
            group=None if group is None else str(group),
            frequency=None if frequency is None else number_of(row, "frequency", index, spec),
        )
