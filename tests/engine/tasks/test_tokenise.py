from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from laser_sweep.engine.tasks.example import Example, Scoring, Task
from laser_sweep.engine.tasks.tokenise import Encoded, Passage, encode
from laser_sweep.errors import RequestError
from laser_sweep.trial import Family

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
    return Example(**{"id": "41", "row": 41, "prompt": prompt, "gold": gold, **changes})  # type: ignore[arg-type]


def ask(
    examples: list[Example],
    tokenizer: PreTrainedTokenizerFast,
    limit: int | None = None,
    *,
    family: Family = "causal",
    **scoring: Any,
) -> list[Encoded]:
    task = Task("d", tuple(examples), family=family, scoring=Scoring(**scoring))
    encoded, bad_rows = encode(task, examples, tokenizer, limit)
    assert not bad_rows
    return encoded


def refused(
    examples: list[Example], tokenizer: PreTrainedTokenizerFast, message: str, limit: int | None = None, **options: Any
) -> None:
    """The last example is refused with a line that begins with `message`, or left out on request; others stay."""
    task = Task(
        "d", tuple(examples), family=options.pop("family", "causal"), scoring=Scoring(**options), on_bad_row="error"
    )
    with pytest.raises(RequestError, match="^" + re.escape(f"dataset=d row 41: {message}")) as caught:
        encode(task, examples, tokenizer, limit)
    assert "\n" not in str(caught.value)
    others = [question(row=7), *examples]
    if limit is None:  # which nothing would fit
        encoded, bad_rows = encode(dataclasses.replace(task, on_bad_row="skip"), others, tokenizer, 100)
        assert [(bad.row, bad.reason.startswith(message)) for bad in bad_rows] == [(41, True)]
        assert [one.example for one in encoded] == others[:-1]


NEXT = {"answers": "next_token"}


def test_an_answer_after_a_byte_level_prompt_is_the_token_with_the_space(byte_level: PreTrainedTokenizerFast) -> None:
    vocabulary = byte_level.get_vocab()
    (encoded,) = ask([question(choices=("true", "false"))], byte_level)
    assert (encoded.kind, encoded.gold_length) == ("token", 1)
    assert encoded.passages == (
        Passage(
            input_ids=(*byte_level("the")["input_ids"], vocabulary["Ġclaim"], vocabulary["Ġis"]),
            positions=(len(byte_level("the claim is")["input_ids"]) - 1,),
            targets=(vocabulary["Ġtrue"],),
            candidates=(vocabulary["Ġtrue"], vocabulary["Ġfalse"]),
        ),
    )


def test_an_answer_after_a_llama_prompt_is_the_word_token_and_the_prompt_begins_with_bos(
    metaspace: PreTrainedTokenizerFast,
) -> None:
    vocabulary = metaspace.get_vocab()
    (encoded,) = ask([question(choices=("true", "false"))], metaspace)
    assert encoded.passages == (
        Passage(
            input_ids=(vocabulary["<s>"], vocabulary["▁the"], vocabulary["▁claim"], vocabulary["▁is"]),
            positions=(3,),
            targets=(vocabulary["▁true"],),
            candidates=(vocabulary["▁true"], vocabulary["▁false"]),
        ),
    )


def test_spaces_around_an_answer_are_not_part_of_it(any_tokenizer: PreTrainedTokenizerFast) -> None:
    plain, spaced = ask([question(gold="true"), question(gold=" true ")], any_tokenizer)
    assert plain.passages == spaced.passages


def test_examples_stay_in_order_and_keep_their_prompts(any_tokenizer: PreTrainedTokenizerFast) -> None:
    examples = [question("the capital of Italy is", "Rome"), question(), question("is this claim", "false")]
    encoded = ask(examples, any_tokenizer)
    assert [e.example for e in encoded] == examples
    assert [list(e.passages[0].input_ids) for e in encoded] == [any_tokenizer(e.prompt)["input_ids"] for e in examples]
    assert [any_tokenizer.decode(list(e.passages[0].targets)).strip() for e in encoded] == ["Rome", "true", "false"]
    assert encoded[0].passages[0].candidates == ()


def test_choices_of_several_tokens_are_a_passage_each(any_tokenizer: PreTrainedTokenizerFast) -> None:
    (encoded,) = ask([question(gold="true and false", choices=("true", "true and false"))], any_tokenizer)
    assert (encoded.kind, encoded.gold, encoded.gold_length) == ("choices", 1, 3)
    short, long = encoded.passages
    whole = any_tokenizer("the claim is true and false")["input_ids"]
    assert long.input_ids == tuple(whole[:-1])
    assert long.targets == tuple(whole[-3:])
    assert long.positions == tuple(range(len(whole) - 4, len(whole) - 1))
    assert short.targets == tuple(any_tokenizer("the claim is true")["input_ids"][-1:])


def test_answers_are_written_by_the_model_where_one_of_them_is_not_one_token(
    any_tokenizer: PreTrainedTokenizerFast,
) -> None:
    one, several = ask([question(), question(gold="true and false")], any_tokenizer)
    assert (one.kind, several.kind) == ("generation", "generation")
    assert several.prompt_ids == tuple(any_tokenizer("the claim is")["input_ids"])
    assert several.passages[0].targets == tuple(any_tokenizer("the claim is true and false")["input_ids"][-3:])
    assert (one.gold_length, several.gold_length) == (1, 3)
    (alone,) = ask([question()], any_tokenizer)
    assert alone.kind == "token"
    (asked,) = ask([question()], any_tokenizer, answers="generation")
    assert asked.kind == "generation"


def test_an_answer_of_several_tokens_is_refused_where_one_is_asked_for(any_tokenizer: PreTrainedTokenizerFast) -> None:
    for gold in ("Romeo", "true or false"):
        refused(
            [question(gold=gold)], any_tokenizer, f"answer {gold!r} is not one token after the prompt: the text", **NEXT
        )


def test_half_a_character_is_refused_wherever_it_stands(any_tokenizer: PreTrainedTokenizerFast) -> None:
    half = "a\ud800"
    refused([question(gold=half)], any_tokenizer, r"'a\ud800' has half a character at place 1")
    refused([question(choices=("true", half))], any_tokenizer, r"'a\ud800' has half a character at place 1")
    refused([question(prompt=half)], any_tokenizer, r"'a\ud800' has half a character at place 1")


@pytest.mark.parametrize("answer", ["", "  "])
def test_an_answer_or_choice_without_text_is_refused(answer: str, any_tokenizer: PreTrainedTokenizerFast) -> None:
    refused([question(gold=answer)], any_tokenizer, f"answer {answer!r} is empty")
    refused([question(choices=("true", answer))], any_tokenizer, f"choice {answer!r} is empty")


def test_an_answer_that_the_tokenizer_does_not_know_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    example = question("amber apple", "zebra")
    task = Task("d", (example,), scoring=Scoring(answers="next_token"))
    with pytest.raises(RequestError, match=r"answer 'zebra' is not one token .* ends in amber, apple, \[unknown\]"):
        encode(task, [example], tokenizer, None)
    with pytest.raises(RequestError, match="answer 'zebra' cannot be told from the prompt"):
        encode(dataclasses.replace(task, scoring=Scoring()), [example], tokenizer, None)


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_a_prompt_without_text_is_refused(prompt: str, any_tokenizer: PreTrainedTokenizerFast) -> None:
    refused([question(row=1), question(prompt)], any_tokenizer, "the prompt is empty")


def test_what_is_longer_than_the_model_reads_is_refused(metaspace: PreTrainedTokenizerFast) -> None:
    assert len(ask([question()], metaspace, 4)[0].passages[0].input_ids) == 4
    refused([question()], metaspace, "4 tokens, but the model reads 3", limit=3)
    generation = {"answers": "generation", "max_new_tokens": 6}
    assert ask([question()], metaspace, 10, **generation)[0].kind == "generation"
    refused([question()], metaspace, "10 tokens, but the model reads 9", limit=9, **generation)


def test_an_answer_that_is_no_choice_is_refused(any_tokenizer: PreTrainedTokenizerFast) -> None:
    refused([question(gold="Rome", choices=("true", "false"))], any_tokenizer, "answer 'Rome' is none of true, false")


@pytest.fixture(scope="module")
def boundless() -> PreTrainedTokenizerFast:
    """Without word boundaries, as SentencePiece BPE merges: two spaces in a row are one token."""
    vocabulary = {"<unk>": 0, "▁": 1, "a": 2, "▁▁": 3, "y": 4, "▁y": 5}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "▁"), ("▁", "y")], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False, prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(split=False, prepend_scheme="never")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_a_choice_that_merges_with_its_prompt_is_scored_by_the_tokens_that_read_as_it(
    boundless: PreTrainedTokenizerFast,
) -> None:
    vocabulary = boundless.get_vocab()
    (apart,) = ask([question("a", "y", choices=("y", "a"))], boundless)
    assert [passage.targets for passage in apart.passages] == [(vocabulary["▁y"],), (vocabulary["a"],)]
    (merged,) = ask([question("a ", "y", choices=("y",))], boundless)
    assert merged.kind == "choices"
    assert merged.passages[0].input_ids == (vocabulary["a"], vocabulary["▁▁"])
    assert merged.passages[0].targets == (vocabulary["y"],)


def test_a_tokenizer_that_ends_every_text_with_a_token_of_its_own_is_refused(
    metaspace: PreTrainedTokenizerFast,
) -> None:
    ending = Tokenizer.from_str(metaspace.backend_tokenizer.to_str())
    ending.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(token, ending.token_to_id(token)) for token in ("<s>", "</s>")]
    )
    example = question()
    with pytest.raises(RequestError, match="answer 'true' cannot be told from the prompt"):
        encode(Task("d", (example,)), [example], PreTrainedTokenizerFast(tokenizer_object=ending), None)


@pytest.fixture(scope="module")
def masked(byte_level: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """As RoBERTa has it: <s> and </s> around a text, a mask that swallows the space before it."""
    words = Tokenizer.from_str(byte_level.backend_tokenizer.to_str())
    words.add_special_tokens(["<s>", "</s>", "<pad>", AddedToken("<mask>", lstrip=True, special=True)])
    ends = [(token, words.token_to_id(token)) for token in ("<s>", "</s>")]
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", mask_token="<mask>"
    )


def test_a_mask_in_the_prompt_is_filled_in_by_one_token(masked: PreTrainedTokenizerFast) -> None:
    vocabulary = masked.get_vocab()
    (encoded,) = ask([question("the claim is <mask>.", choices=("true", "false"))], masked, family="masked")
    ids = masked("the claim is <mask>.")["input_ids"]
    assert encoded.passages == (
        Passage(
            input_ids=tuple(ids),
            positions=(ids.index(masked.mask_token_id),),
            targets=(vocabulary["Ġtrue"],),
            candidates=(vocabulary["Ġtrue"], vocabulary["Ġfalse"]),
        ),
    )


def test_choices_without_a_mask_in_the_prompt_are_masked_themselves(masked: PreTrainedTokenizerFast) -> None:
    (encoded,) = ask([question(gold="false", choices=("true or", "false"))], masked, family="masked")
    prompt = tuple(masked("the claim is", add_special_tokens=False)["input_ids"])
    mask = masked.mask_token_id
    targets = [tuple(masked(f" {text}", add_special_tokens=False)["input_ids"]) for text in ("true or", "false")]
    assert encoded.passages == tuple(
        Passage(
            input_ids=(*prompt, *[mask] * len(ids)),
            positions=tuple(range(len(prompt), len(prompt) + len(ids))),
            targets=ids,
        )
        for ids in targets
    )
    assert (encoded.gold, encoded.gold_length) == (1, 1)
    (published,) = ask([question(gold="false", choices=("true or", "false"))], masked, family="masked", published=True)
    assert published.gold_length == 2  # the published code counts one too many


def test_a_masked_model_writes_into_five_blanks(masked: PreTrainedTokenizerFast) -> None:
    (encoded,) = ask([question(gold="true or false")], masked, family="masked", answers="generation")
    ids = masked("the claim is" + " <mask>" * 5)["input_ids"]
    assert encoded.blanks is not None
    assert encoded.blanks.input_ids == tuple(ids)
    assert [ids[place] for place in encoded.blanks.positions] == [masked.mask_token_id] * 5
    assert encoded.gold_length == len(encoded.passages[0].targets) == 3


def test_masks_that_are_missing_or_too_many_and_long_answers_are_refused(masked: PreTrainedTokenizerFast) -> None:
    filled = {"family": "masked"}
    for prompt, gold, message in (
        ("a <mask> and <mask>.", "true", "the prompt has 2 masks instead of 1"),
        ("the claim is", "true", "the prompt has no <mask>"),
        ("the claim is <mask>", "true or", "answer 'true or' is not one token: Ġtrue, Ġor"),
    ):
        example = question(prompt, gold)
        with pytest.raises(RequestError, match=re.escape(message)):
            ask([example], masked, **filled)  # type: ignore[arg-type]


def test_a_continuation_is_all_that_follows_the_stripped_prompt() -> None:
    """A tokenizer that, like Llama's, cuts the space from a digit but not from a word."""
    vocabulary = ["[unknown]", "▁", *"0123456789", "▁Answer:", "▁none"]
    words = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[unknown]"))
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Digits(True)])
    words.decoder = decoders.Metaspace()
    pieces = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[unknown]")
    example = question("Answer:", "7", choices=("none", "7"))
    targets = {
        continuations: [
            pieces.convert_ids_to_tokens(list(passage.targets))
            for passage in ask([example], pieces, continuations=continuations)[0].passages
        ]
        for continuations in (False, True)
    }
    assert targets == {False: [["▁none"], ["7"]], True: [["▁none"], ["▁", "7"]]}
