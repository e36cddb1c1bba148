"""Bias in Bios as LASER uses it: gender or profession of a person from a biography (De-Arteaga et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from laser_sweep.engine.tasks.example import MASK, AskedModel, BadRow, Example
from laser_sweep.engine.tasks.fever import sentence
from laser_sweep.engine.tasks.source import BadRowError, Row, one_of, parse, read_rows, text_of
from laser_sweep.engine.tasks.spec import DatasetSpec

GENDERS = {"0": "male", "1": "female"}
PROFESSIONS = {
    "11": "journalist",
    "20": "poet",
    "5": "composer",
    "12": "model",
    "26": "teacher",
    "1": "architect",
    "14": "painter",
    "21": "professor",
}
"""The published choice among the 28 professions, by the number that the data set gives them."""
_NUM_PROFESSIONS = 28
_MASKED_TOKENS = 50  # a masked model reads so many tokens from the end of a biography


def gender(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `hard_text` and `gender` (0 male, 1 female)."""
    question = "Is the person in this text a male or female?"
    end = f"This person is {MASK}." if model.family == "masked" else "The gender of this person is"
    biography = _biography(model)

    def make(number: int, row: Row) -> Iterator[Example]:
        yield Example(
            id=str(number),
            row=number,
            prompt=f"Consider the following text: {biography(row)} {question} {end}",
            gold=one_of(row, "gender", GENDERS),
            choices=tuple(GENDERS.values()),
        )

    return parse(read_rows(spec, columns=("hard_text", "gender")), make)


def profession(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `hard_text` and `profession` (0..27, alphabetical); rows of other professions are left out."""
    end = (
        f"The profession of the person in the text is called {MASK}."
        if model.family == "masked"
        else "What is the profession of the person in this text? The profession of this person is"
    )
    biography = _biography(model)

    def make(number: int, row: Row) -> Iterator[Example]:
        label = text_of(row, "profession")
        if not label.isdecimal() or int(label) >= _NUM_PROFESSIONS:
            raise BadRowError(f"profession {label!r} is not a whole number from 0 to {_NUM_PROFESSIONS - 1}")
        if label in PROFESSIONS:
            yield Example(
                id=str(number),
                row=number,
                prompt=f"Consider the following text: {biography(row)} {end}",
                gold=PROFESSIONS[label],
                choices=tuple(PROFESSIONS.values()),
            )

    return parse(read_rows(spec, columns=("hard_text", "profession")), make)


def _biography(model: AskedModel) -> Callable[[Row], str]:
    """The text of a row as a sentence; for a masked model its last 50 tokens."""
    if model.family == "causal":
        return lambda row: sentence(text_of(row, "hard_text"))
    tokenizer = model.tokenizer()

    def last_tokens(row: Row) -> str:
        ids = tokenizer(text_of(row, "hard_text"), add_special_tokens=False)["input_ids"]
        return sentence(str(tokenizer.decode(ids[-_MASKED_TOKENS:], clean_up_tokenization_spaces=False)))

    return last_tokens
