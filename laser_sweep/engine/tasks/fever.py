"""FEVER as LASER uses it: is a claim true or false (Sharma et al. 2024, appendix)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from laser_sweep.engine.tasks.example import MASK, AskedModel, BadRow, Example
from laser_sweep.engine.tasks.source import Row, one_of, parse, read_rows, text_of
from laser_sweep.engine.tasks.spec import DatasetSpec

CHOICES = ("true", "false")
_GOLD = {"0": "false", "1": "true", "REFUTES": "false", "SUPPORTS": "true"}


def examples(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `claim` and `label` (0 or REFUTES, 1 or SUPPORTS).

    A claim that stands in several rows (one for each piece of evidence) becomes one example, in the order of first
    appearance; a claim with two labels is left out. dev and test of the source share no claim, so grouping over both
    is grouping within each.
    """

    def make(number: int, row: Row) -> Iterator[tuple[int, str, str]]:
        yield number, text_of(row, "claim"), one_of(row, "label", _GOLD)

    read = list(parse(read_rows(spec, columns=("claim", "label")), make))
    labels: dict[str, set[str]] = {}
    for _, claim, gold in (row for row in read if not isinstance(row, BadRow)):
        labels.setdefault(claim, set()).add(gold)
    end = f" {MASK}" if model.family == "masked" else ""
    ids = itertools.count()
    for row in read:
        if isinstance(row, BadRow):
            yield row
            continue
        number, claim, gold = row
        if labels.pop(claim, None) == {gold}:  # gone after the first appearance
            yield Example(id=str(next(ids)), row=number, prompt=f"{prompt(claim)}{end}", gold=gold, choices=CHOICES)


def prompt(claim: str) -> str:
    """The published wording."""
    return f"Consider the following claim: {sentence(claim)} Is this claim true or false. The claim is"


def sentence(text: str) -> str:
    """The text without space around it, and with a period where neither that nor a question mark ends it."""
    text = text.strip()
    return text if text.endswith((".", "?")) else f"{text}."
