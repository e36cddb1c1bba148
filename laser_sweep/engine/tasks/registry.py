"""The data sets by the name that `dataset.format` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from laser_sweep.engine.tasks import (
    bias_in_bios,
    bigbench,
    counterfact,
    fever,
    hotpotqa,
    lm_eval,
    prompt_answer,
    truthfulqa,
)
from laser_sweep.engine.tasks.example import AskedModel, BadRow, Example, Scoring, Task, refuse_rows
from laser_sweep.engine.tasks.rollouts import Rollouts, load_rollouts
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError, listing
from laser_sweep.measures import ANSWERS, EPISODES, Measures
from laser_sweep.trial import Family

AnyTask: TypeAlias = Task | Rollouts
"""A data set ready to be asked: prompts of language models, or episodes of models that act."""

_BOTH: tuple[Family, ...] = ("causal", "masked")
_MIN_EXAMPLES = 5  # val is a fifth


@dataclass(frozen=True, slots=True)
class Format:
    """What makes examples of rows, for which families of models it can, and how choices of several tokens are cut."""

    examples: Callable[[DatasetSpec, AskedModel], Iterator[Example | BadRow]]
    families: tuple[Family, ...] = _BOTH
    continuations: bool = False


ROLLOUTS = "rollouts"
"""The format whose examples are episodes and not rows."""

FORMATS: Mapping[str, Format] = {
    "prompt_answer": Format(prompt_answer.examples),
    "counterfact": Format(counterfact.examples),
    "hotpotqa": Format(hotpotqa.examples),
    "fever": Format(fever.examples),
    "bios_gender": Format(bias_in_bios.gender),
    "bios_profession": Format(bias_in_bios.profession),
    "truthfulqa": Format(truthfulqa.examples),
    "bigbench": Format(bigbench.bigbench),
    "bigbench_hard": Format(bigbench.bigbench_hard),
    "lm_eval": Format(lm_eval.examples, families=("causal",), continuations=True),
}


def measures_of(spec: DatasetSpec) -> Measures:
    """What models are judged by on a data set."""
    return EPISODES if spec.format == ROLLOUTS else ANSWERS


def check_family(spec: DatasetSpec, family: Family, model: str) -> None:
    """Raises RequestError where the format does not exist or does not serve a family of models."""
    if spec.format == ROLLOUTS:
        if family != "decision_transformer":
            raise RequestError(
                f"dataset={spec.name} plays episodes, but model={model} is a {family} language model; "
                "give model=decision_transformer"
            )
        return
    if spec.format not in FORMATS:
        known = listing([*FORMATS, ROLLOUTS])
        raise RequestError(f"dataset.format={spec.format} does not exist; choose one of {known}")
    families = FORMATS[spec.format].families
    if family == "decision_transformer":
        raise RequestError(
            f"dataset={spec.name} asks {listing(families)} language models, but model={model} plays episodes; "
            "give dataset=rollouts"
        )
    if family not in families:
        raise RequestError(
            f"dataset={spec.name} asks {listing(families)} language models, but model={model} is a {family} one"
        )


def load_task(spec: DatasetSpec, model: AskedModel) -> AnyTask:
    """Reads a data set and builds its examples for a model.

    Raises RequestError for a wrong file, for a bad row where `on_bad_row=error`, and where too few examples are left.
    """
    if spec.format == ROLLOUTS:
        return load_rollouts(spec, model)
    examples: list[Example] = []
    bad_rows: list[BadRow] = []
    for made in FORMATS[spec.format].examples(spec, model):
        if isinstance(made, BadRow):
            bad_rows.append(replace(made, before=len(examples)))
        else:
            examples.append(made)
    if spec.on_bad_row == "error":
        refuse_rows(spec.name, bad_rows)
    task = Task(
        spec.name,
        tuple(examples),
        family=model.family,
        scoring=Scoring(
            answers=spec.scoring,
            max_new_tokens=spec.max_new_tokens,
            published=spec.published,
            continuations=FORMATS[spec.format].continuations,
        ),
        bad_rows=tuple(bad_rows),
        on_bad_row=spec.on_bad_row,
    )
    if len(examples) < _MIN_EXAMPLES:
        raise RequestError(
            f"dataset={spec.name} has {len(examples)} examples; val is a fifth, so it takes {_MIN_EXAMPLES} or more"
        )
    return task
