"""Any file of prompts and answers."""

from __future__ import annotations

from collections.abc import Iterator

from laser_sweep.engine.tasks.example import MASK, AskedModel, BadRow, Example
from laser_sweep.engine.tasks.source import BadRowError, Row, number_of, parse, read_rows, text_of, texts_of
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import listing


def examples(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `prompt` and `answer`; where the file has them, `choices`, `group`, `subject`, `relation`, `frequency`.

    With choices, the row's or those of the data set, the answer is one of them, or the place of one, counted from 0. A
    masked model fills in `<mask>` where the prompt has one.
    """

    def make(number: int, row: Row) -> Iterator[Example]:
        choices = _choices(row) or spec.choices
        prompt = text_of(row, "prompt")
        open_end = model.family == "masked" and not choices and spec.scoring != "generation" and MASK not in prompt
        tags = {name: None if row.get(name) is None else str(row[name]) for name in ("group", "subject", "relation")}
        yield Example(
            id=str(number),
            row=number,
            prompt=with_mask(prompt) if open_end else prompt,
            gold=_gold(text_of(row, "answer"), choices),
            choices=choices,
            frequency=None if row.get("frequency") is None else number_of(row, "frequency"),
            **tags,
        )

    return parse(read_rows(spec, columns=("prompt", "answer")), make)


def with_mask(prompt: str) -> str:
    """The prompt with its end masked, as a sentence."""
    return f"{prompt}{'' if prompt.endswith(' ') else ' '}{MASK}."


def _choices(row: Row) -> tuple[str, ...]:
    return tuple(texts_of(row, "choices")) if row.get("choices") else ()


def _gold(answer: str, choices: tuple[str, ...]) -> str:
    if not choices or answer in choices:
        return answer
    if not answer.isdecimal() or int(answer) >= len(choices):
        raise BadRowError(f"answer {answer!r} is none of {listing(choices)}")
    return choices[int(answer)]
