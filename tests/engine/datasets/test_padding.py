"""Batches change nothing: padding on the left of prompts that are continued, on the right of texts that are scored."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from laser_sweep.engine.tasks.example import Task
from laser_sweep.trial import TrialResult

from .agreement import check_predictions
from .models import PUBLISHED
from .studies import Study

Run = Callable[..., list[TrialResult]]

FAMILIES = ("gptj", "llama2", "phi", "roberta", "gpt2", "opt")
"""Positions are rotary in the first three; RoBERTa's start behind the padding token, OPT's at 2."""
ONE_BATCH = 100_000


@pytest.mark.parametrize("name", ["wikidata_qa", "epistemic_reasoning", "bios_profession"])
@pytest.mark.parametrize("family", FAMILIES)
def test_examples_in_one_batch_are_answered_as_each_alone(
    family: str,
    name: str,
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
) -> None:
    made = study(family, name)
    loaded, part = task(made), made.part("test")
    tokenizer = made.one_by_one(family).tokenizer
    assert len({len(tokenizer(asked.prompt)["input_ids"]) for asked in part}) > 3  # so that a batch has padding
    edits = (True, False, True) if family in PUBLISHED else (False,)
    for batch_tokens in (1, ONE_BATCH):
        results = run(family, loaded, [("test", edited) for edited in edits], batch_tokens=batch_tokens)
        for result, edited in zip(results, edits, strict=True):
            check_predictions(result, part, made.figures(part, edited=edited))
