"""Any file of prompts and answers: the answer is the token that follows the prompt."""

from __future__ import annotations

from collections.abc import Iterator

from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.source import read_rows, text_of
from laser_sweep.engine.tasks.spec import DatasetSpec


def examples(spec: DatasetSpec) -> Iterator[Example]:
    """Columns `prompt` and `answer`, and, where the file has them, `group` and `frequency`."""
    for index, row in enumerate(read_rows(spec, columns=("prompt", "answer"))):
        frequency = row.get("frequency")
        group = row.get("group")
        yield Example(
            id=str(index),
            prompt=text_of(row, "prompt", index),
            gold=text_of(row, "answer", index),
            group=None if group is None else str(group),
            frequency=None if frequency is None else float(frequency),
        )
