"""Generation is greedy whatever a checkpoint says, but for compat=published, which leaves it to the checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import GenerationConfig

from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Task
from laser_sweep.trial import TrialResult

from .agreement import check_predictions
from .answers import OneByOne
from .models import save_checkpoint
from .studies import Study

TEST = [("test", False)]
ENDS = {"gptj": {"bos_token_id": 0, "eos_token_id": 0}, "llama2": {"bos_token_id": 1, "eos_token_id": 2}}
CASES = [("llama2", "counterfact"), ("llama2", "wikidata_qa"), ("gptj", "hotpotqa")]
Run = Callable[..., list[TrialResult]]


@pytest.fixture
def settled(tmp_path: Path) -> Callable[..., Checkpoint]:
    """`settled(family, **settings)`: the family's model with settings of its own for generation."""

    def save(family: str, **settings: object) -> Checkpoint:
        generation = GenerationConfig(**{**ENDS[family], **settings})
        directory = save_checkpoint(family, tmp_path / family, generation=generation)
        assert GenerationConfig.from_pretrained(directory).to_dict().items() >= settings.items()
        return find_checkpoint(ModelSpec(name=family, path=str(directory)))

    return save


def continued(
    model: OneByOne, prompt: str, *, length: int, ends: Collection[int] = (), repetition_penalty: float = 1.0
) -> str:
    """Greedy text whose every token may be punished for standing there already, as Keskar et al. (2019) do."""
    ids = model.tokenizer(prompt)["input_ids"]
    start = len(ids)
    while len(ids) < start + length:
        with torch.no_grad():
            logits = model.model(torch.tensor([ids])).logits[0, -1]
        seen = sorted(set(ids))
        logits[seen] = torch.where(
            logits[seen] < 0, logits[seen] * repetition_penalty, logits[seen] / repetition_penalty
        )
        if len(ids) == start:
            logits[list(ends)] = -torch.inf
        token = int(logits.argmax())
        if token in ends:
            break
        ids.append(token)
    return model.text(ids[start:])


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_checkpoint_that_samples_and_punishes_repetition_is_asked_greedily(
    family: str,
    name: str,
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
    settled: Callable[..., Checkpoint],
) -> None:
    made = study(family, name)
    checkpoint = settled(family, do_sample=True, temperature=0.6, top_p=0.9, repetition_penalty=1.7)
    for result in run(checkpoint, task(made), [*TEST, ("test", True)]):
        figures = made.figures(made.part("test"), edited=bool(result.trial.edits))
        check_predictions(result, made.part("test"), figures)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_compat_samples_where_the_checkpoint_does_and_says_the_same_again(
    family: str,
    name: str,
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
    settled: Callable[..., Checkpoint],
) -> None:
    made = study(family, name, published=True)
    checkpoint, loaded = settled(family, do_sample=True, temperature=0.6, top_p=0.9), task(made)
    first, again = run(checkpoint, loaded, [*TEST, *TEST])
    alone, _ = run(checkpoint, loaded, [*TEST, ("val", False)], batch_tokens=1)
    _, later = run(checkpoint, loaded, [("val", True), *TEST], batch_tokens=10_000)
    said = first.predictions.prediction
    for other in (again, alone, later):
        assert other.predictions.prediction == said
        assert (other.metrics.accuracy, other.metrics.f1) == (first.metrics.accuracy, first.metrics.f1)
    greedy = [one.prediction for one in made.figures(made.part("test"))]
    assert sum(one != other for one, other in zip(said, greedy, strict=True)) > len(greedy) / 3


def test_compat_samples_from_what_the_checkpoint_leaves_open(
    study: Callable[..., Study], task: Callable[..., Task], run: Run, settled: Callable[..., Checkpoint]
) -> None:
    made = study("llama2", "wikidata_qa", published=True)
    (result,) = run(settled("llama2", do_sample=True, top_k=1), task(made), TEST)
    check_predictions(result, made.part("test"), made.figures(made.part("test")))


def test_compat_takes_the_other_settings_of_the_checkpoint(
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
    settled: Callable[..., Checkpoint],
    one_by_one: Callable[..., OneByOne],
) -> None:
    made = study("gptj", "wikidata_qa", published=True)
    (result,) = run(settled("gptj", repetition_penalty=1.7), task(made), TEST)
    punished = partial(continued, one_by_one("gptj"), length=10, ends=[0], repetition_penalty=1.7)
    assert list(result.predictions.prediction) == [punished(asked.prompt).strip() for asked in made.part("test")]
    assert list(result.predictions.prediction) != [one.prediction for one in made.figures(made.part("test"))]


@pytest.mark.parametrize("published", [False, True])
def test_every_end_token_of_the_checkpoint_ends_an_answer(
    published: bool,
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
    settled: Callable[..., Checkpoint],
    one_by_one: Callable[..., OneByOne],
) -> None:
    model, made = one_by_one("llama2"), study("llama2", "wikidata_qa", published=published)
    before = [model.write(asked.prompt, 10) for asked in made.part("test")]
    often = max({token for ids in before for token in ids}, key=lambda token: sum(token in ids[1:] for ids in before))
    untouched, edited = run(settled("llama2", eos_token_id=[2, often]), task(made), [*TEST, ("test", True)])
    for result, asks in ((untouched, model), (edited, one_by_one("llama2", edited=True))):
        ended = partial(continued, asks, length=10, ends=[2, often])
        assert list(result.predictions.prediction) == [ended(asked.prompt).strip() for asked in made.part("test")]
    assert list(untouched.predictions.prediction) != [model.text(ids).strip() for ids in before]
