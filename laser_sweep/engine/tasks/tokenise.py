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
    prompts = [list(ids) for ids in tokenizer([example.prompt for example in examples])["input_ids"]]
    answers = _AnswerTokens(tokenizer)
    encoded = []
    for example, input_ids in zip(examples, prompts, strict=True):
        if not input_ids or not example.prompt.strip():
            raise RequestError(f"example {example.id}: the prompt is empty")
        if max_tokens is not None and len(input_ids) > max_tokens:
            raise RequestError(f"example {example.id}: {len(input_ids)} tokens, but the model reads {max_tokens}")
        choice_ids = tuple(answers.id_of(choice, example, input_ids) for choice in example.choices)
        if choice_ids and example.gold not in example.choices:
            raise RequestError(f"example {example.id}: answer {example.gold!r} is none of {example.choices}")
        encoded.append(Encoded(example, tuple(input_ids), answers.id_of(example.gold, example, input_ids), choice_ids))
    return encoded


class _AnswerTokens:
    """The token of an answer text, found once for each text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids: dict[str, int] = {}

    def id_of(self, answer: str, example: Example, prompt_ids: list[int]) -> int:
        if answer not in self._ids:
            joint = list(self._tokenizer(f"{example.prompt} {answer.strip()}")["input_ids"])
            # Masked models end a text with a special token, which the joint text has too.
            length = len(prompt_ids)
            continuation = joint[length:] if joint[:length] == prompt_ids else []
            if len(continuation) != 1 or continuation[0] == self._tokenizer.unk_token_id:
                tokens = self._tokenizer.convert_ids_to_tokens(joint[-4:])
                raise RequestError(
                    f"example {example.id}: answer {answer!r} must be one token after the prompt; "
                    f"the text ends in {tokens}"
                )
            self._ids[answer] = continuation[0]
        return self._ids[answer]
