"""Tasks of BIG-bench and BIG-bench Hard whose inputs are the prompts (Srivastava et al. 2022; Suzgun et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator

from laser_sweep.engine.tasks.example import AskedModel, BadRow, Example
from laser_sweep.engine.tasks.source import BadRowError, Row, parse, read_rows, text_of, texts_of
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import listing


def bigbench(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `inputs` and `targets`, a list of one. The answer is one of `dataset.choices`.

    Without choices, rows with other than one target are left out, and a causal model reads the input stripped.
    """

    def make(number: int, row: Row) -> Iterator[Example]:
        targets = texts_of(row, "targets")
        if len(targets) == 1:
            stripped = not spec.choices and model.family == "causal"
            inputs = text_of(row, "inputs")
            yield _example(number, inputs.strip() if stripped else inputs, targets[0], spec)
        elif spec.choices:
            raise BadRowError(f"there are {len(targets)} targets instead of 1")

    return parse(read_rows(spec, columns=("inputs", "targets")), make)


def bigbench_hard(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `input` and `target`, which is one of `dataset.choices`."""

    def make(number: int, row: Row) -> Iterator[Example]:
        yield _example(number, text_of(row, "input"), text_of(row, "target"), spec)

    return parse(read_rows(spec, columns=("input", "target")), make)


def _example(number: int, prompt: str, target: str, spec: DatasetSpec) -> Example:
    gold = target.strip()
    if spec.choices and gold not in spec.choices:
        raise BadRowError(f"target {gold!r} is none of {listing(spec.choices)}")
    return Example(id=str(number), row=number, prompt=prompt, gold=gold, choices=spec.choices)
