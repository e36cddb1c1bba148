"""FEVER as LASER uses it: is a claim true or false (Sharma et al. 2024, appendix)."""

from __future__ import annotations

from collections.abc import Iterator

from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.source import read_rows, text_of
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError, listing

CHOICES = ("true", "false")
_GOLD = {"0": "false", "1": "true", "REFUTES": "false", "SUPPORTS": "true"}


def examples(spec: DatasetSpec) -> Iterator[Example]:
    """Columns `claim` and `label` (0 or REFUTES, 1 or SUPPORTS).

    A claim that stands in several rows (one for each piece of evidence) becomes one example, in the order of first
    appearance; a claim with two labels is left out. dev and test of the source share no claim, so grouping over both
    is grouping within each.
    """
    labels: dict[str, set[str]] = {}
    for number, row in enumerate(read_rows(spec, columns=("claim", "label"))):
        label = text_of(row, "label", number, spec)
        if label not in _GOLD:
            raise RequestError(f"dataset={spec.name} row {number}: label {label!r} is none of {listing(_GOLD)}")
        labels.setdefault(text_of(row, "claim", number, spec), set()).add(_GOLD[label])
    agreed = ((claim, *golds) for claim, golds in labels.items() if len(golds) == 1)
    for index, (claim, gold) in enumerate(agreed):
        yield Example(id=str(index), prompt=prompt(claim), gold=gold, choices=CHOICES)


def prompt(claim: str) -> str:
    """The published wording."""
    claim = claim.strip()
    period = "" if claim.endswith((".", "?")) else "."
    return f"Consider the following claim: {claim}{period} Is this claim true or false. The claim is"
