"""Examples -> token ids: the prompt's, and the one token that each answer is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from laser_sweep.engine.tasks.example import Example
from laser_sweep.errors import RequestError


@dataclass(frozen=True, slots=True)
class Encoded:
    """An example as the model sees it: prompt ids, the gold token, and the token of each choice."""

    example: Example
    input_ids: tuple[int, ...]
    gold_id: int
    choice_ids: tuple[int, ...]


def encode(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, max_tokens: int | None) -> list[Encoded]:
    """Encodes prompts with the tokenizer's special tokens, and answers as they continue the prompt after a space.

    An answer is tokenised jointly with its prompt, so that a leading space is part of the token where the tokenizer
    makes it so (GPT-J, Llama). Raises RequestError for a prompt that is empty or longer than `max_tokens`, and for an
    answer that is not exactly one token.
    """
    prompts = _ids(tokenizer, [example.prompt for example in examples])
    for example, prompt in zip(examples, prompts, strict=True):
        if not prompt or not example.prompt.strip():
            raise RequestError(f"example {example.id}: the prompt is empty")
        if max_tokens is not None and len(prompt) > max_tokens:
            raise RequestError(f"example {example.id}: {len(prompt)} tokens, but the model reads {max_tokens}")
        if example.choices and example.gold not in example.choices:
            raise RequestError(f"example {example.id}: answer {example.gold!r} is none of {example.choices}")
    answers = [example.choices or (example.gold,) for example in examples]
    continued = [
        f"{example.prompt} {text.strip()}" for example, texts in zip(examples, answers, strict=True) for text in texts
    ]
    joint = iter(_ids(tokenizer, continued))
    encoded = []
    for example, prompt, texts in zip(examples, prompts, answers, strict=True):
        tokens = {text: _answer_token(text, example, prompt, next(joint), tokenizer) for text in texts}
        choice_ids = tuple(tokens[choice] for choice in example.choices)
        encoded.append(Encoded(example, tuple(prompt), tokens[example.gold], choice_ids))
    return encoded


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return [list(ids) for ids in tokenizer(texts)["input_ids"]]


def _answer_token(
    answer: str, example: Example, prompt: list[int], joint: list[int], tokenizer: PreTrainedTokenizerBase
) -> int:
    """The one token that prompt and answer together have more than the prompt."""
    token = joint[-1]
    if joint[:-1] != prompt or token == tokenizer.unk_token_id or not answer.strip():
        raise RequestError(
            f"example {example.id}: answer {answer!r} must be one token after the prompt; "
            f"the text ends in {tokenizer.convert_ids_to_tokens(joint[-4:])}"
        )
    return token
