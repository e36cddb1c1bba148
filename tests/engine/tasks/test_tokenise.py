from __future__ import annotations

import re

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from laser_sweep.engine.tasks.example import Example
from laser_sweep.engine.tasks.tokenise import Encoded, encode
from laser_sweep.errors import RequestError

CORPUS = [
    "the claim is true and the other claim is false",
    "is this claim true or false . the claim is true",
    "the capital of Italy is Rome and the claim is false",
] * 40


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2 and GPT-J have it: bytes, a leading space is part of a token, no special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"]
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<|endoftext|>", eos_token="<|endoftext|>")


@pytest.fixture(scope="module")
def metaspace() -> PreTrainedTokenizerFast:
    """As Llama has it: a space is ▁, one stands before the text, and <s> before everything."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture(params=["byte_level", "metaspace"])
def any_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    tokenizer: PreTrainedTokenizerFast = request.getfixturevalue(request.param)
    return tokenizer


def question(prompt: str = "the claim is", gold: str = "true", **changes: object) -> Example:
    return Example(**{"id": "41", "prompt": prompt, "gold": gold, **changes})  # type: ignore[arg-type]


def test_an_answer_after_a_byte_level_prompt_is_the_token_with_the_space(byte_level: PreTrainedTokenizerFast) -> None:
    vocabulary = byte_level.get_vocab()
    (encoded,) = encode([question(choices=("true", "false"))], byte_level, None)
    assert encoded.input_ids == (*byte_level("the")["input_ids"], vocabulary["Ġclaim"], vocabulary["Ġis"])
    assert encoded.gold_id == vocabulary["Ġtrue"]
    assert encoded.choice_ids == (vocabulary["Ġtrue"], vocabulary["Ġfalse"])


def test_an_answer_after_a_llama_prompt_is_the_word_token_and_the_prompt_begins_with_bos(
    metaspace: PreTrainedTokenizerFast,
) -> None:
    vocabulary = metaspace.get_vocab()
    (encoded,) = encode([question(choices=("true", "false"))], metaspace, None)
    assert encoded.input_ids == (vocabulary["<s>"], vocabulary["▁the"], vocabulary["▁claim"], vocabulary["▁is"])
    assert encoded.gold_id == vocabulary["▁true"]
    assert encoded.choice_ids == (vocabulary["▁true"], vocabulary["▁false"])


def test_spaces_around_an_answer_are_not_part_of_it(any_tokenizer: PreTrainedTokenizerFast) -> None:
    plain, spaced = encode([question(gold="true"), question(gold=" true ")], any_tokenizer, None)
    assert plain.gold_id == spaced.gold_id


def test_examples_stay_in_order_and_keep_their_prompts(any_tokenizer: PreTrainedTokenizerFast) -> None:
    examples = [question("the capital of Italy is", "Rome"), question(), question("is this claim", "false")]
    encoded = encode(examples, any_tokenizer, None)
    assert [e.example for e in encoded] == examples
    assert [list(e.input_ids) for e in encoded] == [any_tokenizer(e.prompt)["input_ids"] for e in examples]
    assert [any_tokenizer.decode([e.gold_id]).strip() for e in encoded] == ["Rome", "true", "false"]
    assert isinstance(encoded[0], Encoded)
    assert encoded[0].choice_ids == ()


def refused(
    examples: list[Example], tokenizer: PreTrainedTokenizerFast, message: str, limit: int | None = None
) -> None:
    with pytest.raises(RequestError, match="^" + re.escape(message)) as caught:
        encode(examples, tokenizer, limit)
    assert "\n" not in str(caught.value)


def test_an_answer_of_several_tokens_is_refused(any_tokenizer: PreTrainedTokenizerFast) -> None:
    refused(
        [question(gold="Romeo")],
        any_tokenizer,
        "example 41: answer 'Romeo' must be one token after the prompt; the text",
    )
    refused([question(gold="true or false")], any_tokenizer, "example 41: answer 'true or false' must be one token")


def test_a_choice_of_several_tokens_is_refused(any_tokenizer: PreTrainedTokenizerFast) -> None:
    refused([question(choices=("true", "Romeo"))], any_tokenizer, "example 41: answer 'Romeo' must be one token")


@pytest.mark.parametrize("answer", ["", "  "])
def test_an_answer_without_text_is_refused(answer: str, any_tokenizer: PreTrainedTokenizerFast) -> None:
    refused([question(gold=answer)], any_tokenizer, f"example 41: answer {answer!r} must be one token")


def test_an_answer_that_the_tokenizer_does_not_know_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    refused(
        [question("amber apple", "zebra")],
        tokenizer,
        "example 41: answer 'zebra' must be one token after the prompt; "
        "the text ends in ['amber', 'apple', '[unknown]']",
    )


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_a_prompt_without_text_is_refused(prompt: str, any_tokenizer: PreTrainedTokenizerFast) -> None:
    refused([question(), question(prompt, id="42")], any_tokenizer, "example 42: the prompt is empty")


def test_a_prompt_longer_than_the_model_reads_is_refused(metaspace: PreTrainedTokenizerFast) -> None:
    assert len(encode([question()], metaspace, 4)[0].input_ids) == 4
    refused([question()], metaspace, "example 41: 4 tokens, but the model reads 3", limit=3)


def test_an_answer_that_is_no_choice_is_refused(any_tokenizer: PreTrainedTokenizerFast) -> None:
    refused(
        [question(gold="Rome", choices=("true", "false"))],
        any_tokenizer,
        "example 41: answer 'Rome' is none of ('true', 'false')",
    )


@pytest.fixture(scope="module")
def boundless() -> PreTrainedTokenizerFast:
    """Without word boundaries, as SentencePiece BPE merges: two spaces in a row are one token."""
    vocabulary = {"<unk>": 0, "▁": 1, "a": 2, "▁▁": 3, "y": 4, "▁y": 5}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "▁"), ("▁", "y")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False, prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_an_answer_that_merges_with_its_prompt_is_refused(boundless: PreTrainedTokenizerFast) -> None:
    assert encode([question("a", "y")], boundless, None)[0].gold_id == boundless.get_vocab()["▁y"]
    refused([question("a ", "y")], boundless, "example 41: answer 'y' must be one token after the prompt")


def test_an_answer_that_merges_with_a_later_prompt_is_refused(boundless: PreTrainedTokenizerFast) -> None:
    refused([question("a", "y"), question("a ", "y", id="42")], boundless, "example 42: answer 'y' must be one token")


def test_a_tokenizer_that_ends_every_text_with_a_token_of_its_own_is_refused(
    metaspace: PreTrainedTokenizerFast,
) -> None:
    ending = Tokenizer.from_str(metaspace.backend_tokenizer.to_str())
    ending.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, ending.token_to_id(token)) for token in ("<s>", "</s>")]
    )
    refused(
        [question()], PreTrainedTokenizerFast(tokenizer_object=ending), "example 41: answer 'true' must be one token"
    )
