from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, RobertaConfig

from laser_sweep.engine.evaluation.batches import Collator
from laser_sweep.engine.evaluation.forward import Forward
from laser_sweep.engine.evaluation.packing import alone
from laser_sweep.engine.evaluation.score import PassageScores, Piece, score
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.tasks.tokenise import Passage

CPU = torch.device("cpu")
VOCABULARY = 50
PAD = 1
BuildModel = Callable[..., PreTrainedModel]


@pytest.fixture(params=["gptj", "llama", "gpt2", "opt", "masked roberta"])
def model(request: pytest.FixtureRequest, build_model: BuildModel, build_masked: BuildModel) -> PreTrainedModel:
    if request.param == "masked roberta":
        return build_masked("roberta", vocab_size=VOCABULARY, pad_token_id=PAD)
    return build_model(request.param, vocab_size=VOCABULARY)


def questions(count: int, candidates: int = 0, seed: int = 0) -> list[Passage]:
    """Random passages of 2 to 12 tokens, none of them padding, read at 1 to 3 places."""
    draw = random.Random(seed)
    passages = []
    for _ in range(count):
        length = draw.randint(2, 12)
        positions = sorted(draw.sample(range(length), min(length, draw.randint(1, 3))))
        passages.append(
            Passage(
                input_ids=tuple(draw.choices(range(2, VOCABULARY), k=length)),
                positions=tuple(positions),
                targets=tuple(draw.choices(range(VOCABULARY), k=len(positions))),
                candidates=tuple(draw.sample(range(VOCABULARY), draw.randint(0, candidates))),
            )
        )
    return passages


def run(model: PreTrainedModel, passages: list[Passage], budget: int = 48) -> PassageScores:
    masked = isinstance(model.config, RobertaConfig)
    collator = Collator(CPU, PAD if masked else None)
    pieces = [Piece(batch) for batch in collator.batches(alone(passages), budget)]
    return score(Forward(model, find_layout(model)), pieces, collator)


def assert_equal_to_one_by_one(
    scores: PassageScores, model: PreTrainedModel, passages: list[Passage], atol: float = 1e-4
) -> None:
    """Against one passage at a time, a log-softmax over the vocabulary and a sort, in float64."""
    for place, passage in enumerate(passages):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([passage.input_ids])).logits[0].double()
        read = [torch.log_softmax(logits[position], dim=-1) for position in passage.positions]
        by_probability = [log_probs.argsort(descending=True, stable=True).tolist() for log_probs in read]
        expected = sum(float(log_probs[target]) for log_probs, target in zip(read, passage.targets, strict=True))
        assert scores.log_prob[place] == pytest.approx(expected, abs=atol)
        ranks = [order.index(target) for order, target in zip(by_probability, passage.targets, strict=True)]
        assert scores.rank[place] == max(ranks)
        assert scores.best_ids[place].tolist() == [order[0] for order in by_probability]
        assert scores.top_ids[place].tolist() == by_probability[0][:10]
        assert scores.num_best[place] == 1
        wanted = [float(logits[passage.positions[0], candidate]) for candidate in passage.candidates]
        found = scores.candidate_logits[place]
        np.testing.assert_allclose(found[: len(wanted)], wanted, rtol=0, atol=atol)
        assert np.isneginf(found[len(wanted) :]).all()


@pytest.mark.parametrize("candidates", [0, 2, 8])
@pytest.mark.parametrize("budget", [1, 48, 10_000])
def test_every_figure_equals_that_of_one_passage_at_a_time(
    candidates: int, budget: int, model: PreTrainedModel
) -> None:
    passages = questions(30, candidates)
    scores = run(model, passages, budget)
    assert_equal_to_one_by_one(scores, model, passages)
    assert scores.log_prob.dtype == np.float64


def test_a_model_in_half_precision_is_scored_in_float32(build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY, dtype=torch.bfloat16)
    passages = [p for p in questions(20, 2)]
    scores = run(model, passages, budget=1)
    for place, passage in enumerate(passages):
        logits = model(input_ids=torch.tensor([passage.input_ids])).logits[0].double()
        expected = sum(
            float(torch.log_softmax(logits[position], dim=-1)[target])
            for position, target in zip(passage.positions, passage.targets, strict=True)
        )
        assert scores.log_prob[place] == pytest.approx(expected, abs=1e-5)


@contextmanager
def head_inputs(model: PreTrainedModel) -> Iterator[list[torch.Size]]:
    """The shapes of what the output embedding is given."""
    shapes: list[torch.Size] = []
    handle = model.get_output_embeddings().register_forward_hook(
        lambda module, arguments, output: shapes.append(arguments[0].shape)
    )
    try:
        yield shapes
    finally:
        handle.remove()


def test_the_head_is_given_the_places_that_are_read_and_no_others(model: PreTrainedModel) -> None:
    passages = questions(30, 2)
    with head_inputs(model) as shapes:
        run(model, passages, 10_000)
    assert shapes == [(1, sum(len(passage.positions) for passage in passages), 32)]


@torch.inference_mode()
def test_answer_logits_are_those_of_the_places_in_order(build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY)
    passages = questions(10)
    (batch,) = Collator(CPU).batches(alone(passages), 1000)
    expected = [
        model(torch.tensor([passages[index].input_ids])).logits[0, position]
        for index in batch.indices
        for position in passages[index].positions
    ]
    found = Forward(model, find_layout(model)).logits(batch)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-4)


def test_after_scoring_the_model_gives_logits_at_every_position_again(model: PreTrainedModel) -> None:
    run(model, questions(5))
    assert model(torch.tensor([[5, 2, 3]])).logits.shape == (1, 3, VOCABULARY)


@contextmanager
def memory_for(model: PreTrainedModel, rows: int) -> Iterator[list[int]]:
    """A device that holds `rows` passages at once; yields the sizes of the batches that it was given."""
    sizes: list[int] = []

    def refuse(module: torch.nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        sizes.append(len(options["input_ids"]))
        if sizes[-1] > rows:
            raise torch.OutOfMemoryError("the device is full")

    handle = model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        yield sizes
    finally:
        handle.remove()


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_batches_that_do_not_fit_are_halved_with_the_same_results(rows: int, model: PreTrainedModel) -> None:
    passages = questions(40, 2)
    with memory_for(model, rows) as sizes:
        scores = run(model, passages, budget=200)
    assert max(sizes) > rows
    assert sum(size for size in sizes if size <= rows) == 40
    assert_equal_to_one_by_one(scores, model, passages)


def test_one_passage_that_does_not_fit_is_an_error_and_leaves_the_model_whole(model: PreTrainedModel) -> None:
    with memory_for(model, 0), pytest.raises(torch.OutOfMemoryError, match="the device is full"):
        run(model, questions(8, 2))
    assert model(torch.tensor([[5, 2, 3]])).logits.shape == (1, 3, VOCABULARY)


def test_tokens_that_are_equally_probable_are_counted(model: PreTrainedModel) -> None:
    model.get_output_embeddings().weight.zero_()
    if model.get_output_embeddings().bias is not None:
        model.get_output_embeddings().bias.zero_()
    scores = run(model, questions(10))
    assert scores.num_best.tolist() == [10] * 10  # of the ten that are looked at
    assert scores.rank.tolist() == [0] * 10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error_that_counts_the_answers(value: float, model: PreTrainedModel) -> None:
    model.get_output_embeddings().weight[7] = value
    with pytest.raises(ValueError, match=r"loss of \d+ answers is not finite"):
        run(model, questions(10, 2))


def test_scoring_keeps_no_gradients_even_where_weights_ask_for_them(build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY)
    model.requires_grad_(True)
    run(model, questions(5, 2))
    assert all(parameter.grad is None for parameter in model.parameters())
