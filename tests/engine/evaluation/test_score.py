from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from laser_sweep.engine.evaluation.batches import make_batches
from laser_sweep.engine.evaluation.score import Scores, answer_logits, score
from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.tokenise import Encoded

CPU = torch.device("cpu")
VOCABULARY = 50
BuildModel = Callable[..., PreTrainedModel]
AskOneByOne = Callable[..., list[Any]]


@pytest.fixture(params=["gptj", "llama", "gpt2"])
def model(request: pytest.FixtureRequest, build_model: BuildModel) -> PreTrainedModel:
    return build_model(request.param, vocab_size=VOCABULARY)


def questions(count: int, choices: int, seed: int = 0) -> list[Encoded]:
    """Random prompts of 1 to 12 tokens; the gold token is one of the choices where there are any."""
    draw = random.Random(seed)
    encoded = []
    for row in range(count):
        choice_ids = tuple(draw.sample(range(VOCABULARY), choices))
        encoded.append(
            Encoded(
                Example(id=str(row), prompt="", gold=""),
                tuple(draw.choices(range(VOCABULARY), k=draw.randint(1, 12))),
                gold_id=draw.choice(choice_ids or range(VOCABULARY)),
                choice_ids=choice_ids,
            )
        )
    return encoded


def with_right_answers(model: PreTrainedModel, encoded: list[Encoded]) -> list[Encoded]:
    """Every third question gets the most probable token as its gold answer."""
    return [
        Encoded(e.example, e.input_ids, int(model(torch.tensor([e.input_ids])).logits[0, -1].argmax()), e.choice_ids)
        if row % 3 == 0
        else e
        for row, e in enumerate(encoded)
    ]


def run(model: PreTrainedModel, encoded: list[Encoded], budget: int = 48) -> Scores:
    return score(model, make_batches(encoded, budget, CPU))


def assert_equal_to_one_by_one(
    scores: Scores, model: PreTrainedModel, encoded: list[Encoded], ask_one_by_one: AskOneByOne
) -> None:
    answers = ask_one_by_one(model, [(e.input_ids, e.gold_id, e.choice_ids) for e in encoded])
    np.testing.assert_allclose(scores.gold_log_prob, [a.gold_log_prob for a in answers], rtol=0, atol=1e-4)
    assert scores.gold_rank.tolist() == [a.gold_rank for a in answers]
    assert scores.predicted.tolist() == [a.predicted for a in answers]
    assert scores.correct.tolist() == [a.correct for a in answers]


@pytest.mark.parametrize("choices", [0, 2, 8])
@pytest.mark.parametrize("budget", [1, 48, 10_000])
def test_every_figure_equals_that_of_one_example_at_a_time(
    choices: int, budget: int, model: PreTrainedModel, ask_one_by_one: AskOneByOne
) -> None:
    encoded = questions(40, choices)
    if not choices:
        encoded = with_right_answers(model, encoded)
    scores = run(model, encoded, budget)
    assert_equal_to_one_by_one(scores, model, encoded, ask_one_by_one)
    assert 0 < scores.correct.sum() < 40
    assert scores.gold_log_prob.dtype == np.float64
    assert scores.correct.dtype == np.bool_


def test_a_model_in_half_precision_is_scored_in_float32(build_model: BuildModel, ask_one_by_one: AskOneByOne) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY, dtype=torch.bfloat16)
    encoded = questions(20, 2)
    scores = run(model, encoded, budget=1)
    answers = ask_one_by_one(model, [(e.input_ids, e.gold_id, e.choice_ids) for e in encoded])
    np.testing.assert_allclose(scores.gold_log_prob, [a.gold_log_prob for a in answers], rtol=0, atol=1e-5)
    assert scores.correct.tolist() == [a.correct for a in answers]


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


def test_the_head_is_given_one_position_of_each_row(model: PreTrainedModel) -> None:
    encoded = questions(30, 2)
    batches = make_batches(encoded, 48, CPU)
    with head_inputs(model) as shapes:
        score(model, batches)
    assert shapes == [(len(batch), 1, 32) for batch in batches]
    assert any(batch.input_ids.shape[1] > 1 for batch in batches)


def test_answer_logits_are_those_of_the_last_token_of_each_prompt(model: PreTrainedModel) -> None:
    encoded = questions(10, 0)
    (batch,) = make_batches(encoded, 1000, CPU)
    found = answer_logits(model, batch)
    assert found.shape == (10, VOCABULARY)
    for place, row in zip(batch.indices, found, strict=True):
        alone = model(torch.tensor([encoded[place].input_ids])).logits[0, -1]
        torch.testing.assert_close(row, alone, rtol=0, atol=1e-4)


def test_after_scoring_the_model_gives_logits_at_every_position_again(model: PreTrainedModel) -> None:
    run(model, questions(5, 0))
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, VOCABULARY)


@contextmanager
def memory_for(model: PreTrainedModel, rows: int) -> Iterator[list[int]]:
    """A device that holds `rows` prompts at once; yields the sizes of the batches that it was given."""
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
def test_batches_that_do_not_fit_are_halved_with_the_same_results(
    rows: int, model: PreTrainedModel, ask_one_by_one: AskOneByOne
) -> None:
    encoded = questions(40, 2)
    with memory_for(model, rows) as sizes:
        scores = run(model, encoded, budget=200)
    assert max(sizes) > rows
    assert sum(size for size in sizes if size <= rows) == 40
    assert_equal_to_one_by_one(scores, model, encoded, ask_one_by_one)


def test_one_example_that_does_not_fit_is_an_error_and_leaves_the_model_whole(model: PreTrainedModel) -> None:
    with memory_for(model, 0), pytest.raises(torch.OutOfMemoryError, match="the device is full"):
        run(model, questions(8, 2))
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, VOCABULARY)


def test_a_tie_is_wrong_and_no_token_is_more_probable(model: PreTrainedModel) -> None:
    model.get_output_embeddings().weight.zero_()
    if model.get_output_embeddings().bias is not None:
        model.get_output_embeddings().bias.zero_()
    for choices in (0, 2):
        scores = run(model, questions(10, choices))
        assert not scores.correct.any()
        assert scores.gold_rank.tolist() == [0] * 10
        np.testing.assert_allclose(scores.gold_log_prob, -np.log(VOCABULARY), atol=1e-6)


def test_a_tie_between_choices_is_wrong_although_both_beat_a_third(build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY)
    model.lm_head.weight.zero_()
    model.lm_head.bias.zero_()
    model.lm_head.bias[[4, 5]] = 1.0
    model.lm_head.bias[9] = 2.0
    tied, ahead, behind = (
        Encoded(Example(id="0", prompt="", gold=""), (1, 2), gold, choices)
        for gold, choices in ((4, (3, 4, 5)), (4, (3, 4, 6)), (4, (4, 3, 9)))
    )
    scores = run(model, [tied, ahead, behind])
    assert scores.correct.tolist() == [False, True, False]
    assert scores.predicted.tolist()[1:] == [1, 2]
    assert scores.gold_rank.tolist() == [1, 1, 1]


def test_a_constant_choice_is_right_whatever_other_tokens_say(model: PreTrainedModel) -> None:
    encoded = [Encoded(e.example, e.input_ids, e.gold_id, (e.gold_id,)) for e in questions(10, 0)]
    scores = run(model, encoded)
    assert scores.correct.all()
    assert scores.predicted.tolist() == [0] * 10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error_that_counts_the_examples(value: float, model: PreTrainedModel) -> None:
    model.get_output_embeddings().weight[7] = value
    with pytest.raises(ValueError, match=r"loss of \d+ examples is not finite"):
        run(model, questions(10, 2))


def test_scoring_keeps_no_gradients_even_where_weights_ask_for_them(build_model: BuildModel) -> None:
    model = build_model("gptj", vocab_size=VOCABULARY)
    model.requires_grad_(True)
    run(model, questions(5, 2))
    assert all(parameter.grad is None for parameter in model.parameters())
