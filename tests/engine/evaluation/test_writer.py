from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, PreTrainedModel

from laser_sweep.engine.evaluation import writer as writer_module
from laser_sweep.engine.evaluation.batches import Collator
from laser_sweep.engine.evaluation.forward import Forward
from laser_sweep.engine.evaluation.generate import generate
from laser_sweep.engine.evaluation.packing import alone
from laser_sweep.engine.evaluation.score import Piece, score
from laser_sweep.engine.evaluation.writer import Writer
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.tasks.example import Scoring

CPU = torch.device("cpu")
VOCABULARY = 24
ENDS = [3, 4, 5]  # an eighth of the vocabulary, so that many texts end
MAX_NEW = 8
BuildModel = Callable[..., PreTrainedModel]
Ids = tuple[int, ...]


@pytest.fixture(params=["gptj", "llama", "gpt2", "opt"])
def model(request: pytest.FixtureRequest, build_model: BuildModel) -> PreTrainedModel:
    model = build_model(request.param, vocab_size=VOCABULARY)
    model.generation_config = GenerationConfig(eos_token_id=ENDS, pad_token_id=0)
    return model


def prompts(count: int = 40, seed: int = 0) -> list[Ids]:
    draw = random.Random(seed)
    return [tuple(draw.choices(range(6, VOCABULARY), k=draw.randint(1, 9))) for _ in range(count)]


@torch.no_grad()
def one_by_one(model: PreTrainedModel, asked: Sequence[Ids], max_new_tokens: int = MAX_NEW) -> list[Ids]:
    """A loop over prompts and tokens, without cache and without padding."""
    texts = []
    for prompt in asked:
        ids = list(prompt)
        while len(ids) < len(prompt) + max_new_tokens:
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            if len(ids) == len(prompt):
                logits[ENDS] = -torch.inf  # at least one token
            token = int(logits.argmax())
            if token in ENDS:
                break
            ids.append(token)
        texts.append(tuple(ids[len(prompt) :]))
    return texts


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_texts_are_those_of_a_plain_loop_whatever_stands_beside_them(batch_tokens: int, model: PreTrainedModel) -> None:
    asked = prompts()
    found = generate(model, asked, max_new_tokens=MAX_NEW, batch_tokens=batch_tokens)
    assert [written.ids for written in found] == one_by_one(model, asked)
    assert {written.end in ENDS for written in found if written.end is not None} == {True}
    assert {len(written.ids) for written in found if written.end is None} == {MAX_NEW}
    assert 0 < sum(written.end is None for written in found) < len(found)


def said(model: PreTrainedModel, passages: list[Any]) -> tuple[Any, Any]:
    """The most probable token at each place of each draft, and the most probable ones at its first."""
    collator = Collator(CPU)
    pieces = [Piece(batch) for batch in collator.batches(alone(passages), 200)]
    scores = score(Forward(model, find_layout(model)), pieces, collator)
    return scores.best_ids, scores.top_ids


@pytest.mark.parametrize("strength", [0.0, 0.02, 0.3, 2.0])
def test_an_edited_model_writes_the_same_with_drafts_as_without(strength: float, model: PreTrainedModel) -> None:
    asked = prompts(60)
    writer = Writer(model, asked, Scoring(max_new_tokens=MAX_NEW), batch_tokens=100)
    passages = writer.draft()
    drafts = writer.write()
    weight = model.get_output_embeddings().weight
    weight += strength * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * weight.std()
    expected = one_by_one(model, asked)
    assert (expected != drafts) == (strength > 0)
    assert writer.write_on(*said(model, passages)) == expected


def test_only_what_differs_is_decoded(build_model: BuildModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("llama", vocab_size=VOCABULARY)
    model.generation_config = GenerationConfig(eos_token_id=ENDS, pad_token_id=0)
    writer = Writer(model, prompts(60), Scoring(max_new_tokens=MAX_NEW), batch_tokens=1000)
    passages = writer.draft()
    drafts = writer.write()
    asked: list[int] = []

    def counting(model: PreTrainedModel, prompts: Sequence[Ids], **options: Any) -> Any:
        asked.append(len(prompts))
        return generate(model, prompts, **options)

    monkeypatch.setattr(writer_module, "generate", counting)
    assert writer.write_on(*said(model, passages)) == drafts
    assert asked == []
    weight = model.get_output_embeddings().weight
    weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * weight.std()
    texts = writer.write_on(*said(model, passages))
    changed = sum(one != other for one, other in zip(texts, drafts, strict=True))
    assert 0 < changed < 30
    assert sum(asked) <= changed


def test_text_that_is_sampled_has_no_drafts(build_model: BuildModel) -> None:
    model = build_model("llama", vocab_size=VOCABULARY)
    assert not Writer(model, prompts(2), Scoring(published=True), batch_tokens=100).drafts
    assert Writer(model, prompts(2), Scoring(), batch_tokens=100).drafts


def test_the_settings_of_the_checkpoint_come_back_and_do_not_steer_a_greedy_text(build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY)
    own = GenerationConfig(
        eos_token_id=ENDS, pad_token_id=0, do_sample=True, temperature=9.0, repetition_penalty=5.0, max_length=3
    )
    model.generation_config = own
    asked = prompts(20)
    found = generate(model, asked, max_new_tokens=MAX_NEW, batch_tokens=100)
    assert [written.ids for written in found] == one_by_one(model, asked)
    assert model.generation_config is own


def test_published_texts_are_sampled_as_the_checkpoint_says_and_the_same_each_time(build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY)
    model.generation_config = GenerationConfig(eos_token_id=ENDS, pad_token_id=0, do_sample=True, temperature=2.0)
    asked = prompts(20)
    state = torch.random.get_rng_state()
    found = [
        generate(model, asked, max_new_tokens=MAX_NEW, batch_tokens=budget, published=True) for budget in (1, 1000)
    ]
    assert found[0] == found[1]
    assert [written.ids for written in found[0]] != one_by_one(model, asked)
    assert torch.equal(state, torch.random.get_rng_state())
