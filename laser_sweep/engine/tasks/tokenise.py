"""Examples -> token ids: what goes through the model, and which tokens of it are the answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from transformers import PreTrainedTokenizerBase

from laser_sweep.engine.tasks.example import MASK, BadRow, Example, Task, refuse_rows
from laser_sweep.errors import RequestError, listing

NUM_MASKS = 5
"""How many masks stand for an answer of unknown length (Sharma et al. 2024)."""

Ids: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Token ids that go through the model once, and the places where its logits are read.

    At `positions` (p,) they predict `targets` (p,). `candidates` are the tokens compared at the first of them; empty
    where it is not one token of few that is asked for.
    """

    input_ids: Ids
    positions: Ids
    targets: Ids
    candidates: Ids = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An example as the model sees it.

    `token`: one passage, the answer is the token at its one position. `choices`: a passage for each choice.
    `generation`: one passage that holds the gold answer; the model goes on from `prompt_ids`, or fills `blanks`, a
    prompt that ends in masks. `gold` is the place of the gold passage, `gold_length` what its log p is divided by.
    """

    example: Example
    kind: Literal["token", "choices", "generation"]
    passages: tuple[Passage, ...]
    gold: int = 0
    gold_length: int = 1
    prompt_ids: Ids = ()
    blanks: Passage | None = None

    @property
    def num_tokens(self) -> int:
        """The tokens that the model reads for this example, those of the prompt of a generation included."""
        blanks = () if self.blanks is None else self.blanks.input_ids
        return sum(len(passage.input_ids) for passage in self.passages) + len(self.prompt_ids) + len(blanks)


class _CannotAskError(ValueError):
    """An example cannot be asked; the message says why."""


def generates(task: Task, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether answers without choices are generated, for `auto` because some answer is not one token of a causal model.

    One of the examples with the same answer stands for all: what follows a space is the same token after any prompt.
    """
    if task.scoring.answers != "auto":
        return task.scoring.answers == "generation"
    if task.family == "masked":
        return False
    by_answer = {example.gold: example for example in task.examples if not example.choices and not _fault(example)}
    prompts = _ids(tokenizer, [example.prompt for example in by_answer.values()])
    joint = _ids(tokenizer, [_joined(example.prompt, gold) for gold, example in by_answer.items()])
    return any(_next_token(prompt, ids, tokenizer) is None for prompt, ids in zip(prompts, joint, strict=True))


def encode(
    task: Task,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int | None,
) -> tuple[list[Encoded], list[BadRow]]:
    """Encodes examples of a task, and says which of them cannot be asked and why.

    Those are the ones with an empty prompt or choice, with half a character, with an answer that is not among the
    choices or whose tokens cannot be told from the prompt's, and with more than `max_tokens` tokens. Raises
    RequestError for them where the task says `on_bad_row=error`, and where nothing else is left.
    """
    encoder = _Masked(task, tokenizer) if task.family == "masked" else _Causal(task, tokenizer, examples)
    encoded: list[Encoded] = []
    bad_rows: list[BadRow] = []
    for example in examples:
        try:
            if fault := _fault(example):
                raise _CannotAskError(fault)
            made = encoder.encode(example)
            _check_length(made, task, max_tokens)
        except _CannotAskError as error:
            bad_rows.append(BadRow(example.row, str(error)))
        else:
            encoded.append(made)
    if task.on_bad_row == "error" or not encoded:
        refuse_rows(task.name, bad_rows, all_of_them=task.on_bad_row == "skip")
    return encoded, bad_rows


class _Causal:
    """For models that continue a text: the answer follows the prompt after a space.

    Prompt and answer are tokenised together, so that a leading space is part of the token where the tokenizer makes it
    so (GPT-J, Llama).
    """

    def __init__(self, task: Task, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> None:
        self._task = task
        self._tokenizer = tokenizer
        self._generates = generates(task, tokenizer)
        texts = dict.fromkeys(text for example in examples if not _fault(example) for text in _texts(example))
        self._ids_of = dict(zip(texts, _ids(tokenizer, list(texts)), strict=True))

    def encode(self, example: Example) -> Encoded:
        prompt = self._ids_of[example.prompt]
        if not prompt:
            raise _CannotAskError("the prompt has no tokens")
        answers = example.choices or (example.gold,)
        joint = [self._ids_of[_joined(example.prompt, answer)] for answer in answers]
        if not example.choices and self._generates:
            gold = self._passage(joint[0], example.gold)
            length = len(gold.targets)
            return Encoded(example=example, kind="generation", passages=(gold,), gold_length=length, prompt_ids=prompt)
        tokens = [_next_token(prompt, ids, self._tokenizer) for ids in joint]
        single = tuple(token for token in tokens if token is not None)
        stripped = self._ids_of[example.prompt.rstrip()] if self._task.scoring.continuations else None
        if len(single) == len(tokens) and stripped in (None, prompt):
            place = answers.index(example.gold)
            return Encoded(example=example, kind="token", passages=(_one_token(prompt, single, place, example),))
        if not example.choices:
            raise _CannotAskError(
                f"answer {example.gold!r} is not one token after the prompt: the text ends in "
                f"{_tokens(joint[0], self._tokenizer)}; dataset.scoring=generation takes longer ones"
            )
        passages = tuple(self._passage(ids, answer, stripped) for ids, answer in zip(joint, answers, strict=True))
        return _choices(example, passages)

    def _passage(self, joint: Ids, answer: str, prompt: Ids | None = None) -> Passage:
        """With a prompt, all that follows as many tokens as it has is the answer."""
        length = len(joint) - len(prompt) if prompt else _answer_length(joint, answer, self._tokenizer)
        places = range(len(joint) - length, len(joint))
        if places.start == 0:
            raise _CannotAskError(f"nothing stands before answer {answer!r}")
        return Passage(
            input_ids=joint[:-1],  # the last token predicts nothing that is asked for
            positions=tuple(place - 1 for place in places),
            targets=tuple(joint[place] for place in places),
        )


class _Masked:
    """For models that fill in masks.

    Where the prompt has a mask, the answer is its one token. Elsewhere the answer follows the prompt after a space and
    its tokens are masked, without special tokens around the text, as published.
    """

    def __init__(self, task: Task, tokenizer: PreTrainedTokenizerBase) -> None:
        self._task = task
        self._tokenizer = tokenizer
        if tokenizer.mask_token_id is None:
            raise RequestError(f"the tokenizer {tokenizer.name_or_path} has no mask token, which a masked model needs")
        self._mask = int(tokenizer.mask_token_id)
        self._generates = generates(task, tokenizer)

    def encode(self, example: Example) -> Encoded:
        answers = example.choices or (example.gold,)
        if MASK in example.prompt:
            return self._fill_in(example, answers)
        if not example.choices and not self._generates:
            raise _CannotAskError(f"the prompt has no {MASK}")
        passages = tuple(self._with_masked_answer(example.prompt, answer) for answer in answers)
        if example.choices:
            encoded = _choices(example, passages, extra=self._task.scoring.published)
        else:
            length = len(passages[0].targets) + self._task.scoring.published
            blanks = self._blanks(example.prompt)
            encoded = Encoded(example=example, kind="generation", passages=passages, gold_length=length, blanks=blanks)
        return encoded

    def _fill_in(self, example: Example, answers: Sequence[str]) -> Encoded:
        ids = self._masked_ids(example.prompt)
        places = [place for place, token in enumerate(ids) if token == self._mask]
        if len(places) != 1:
            raise _CannotAskError(f"the prompt has {len(places)} masks instead of 1")
        tokens = tuple(self._one_token(answer) for answer in answers)
        gold = answers.index(example.gold)
        passage = Passage(
            input_ids=ids,
            positions=(places[0],),
            targets=(tokens[gold],),
            candidates=tokens if example.choices else (),
        )
        return Encoded(example=example, kind="token", passages=(passage,))

    def _one_token(self, answer: str) -> int:
        ids = _ids(self._tokenizer, [f" {answer.strip()}"], special=False)[0]
        if len(ids) != 1 or ids[0] == self._tokenizer.unk_token_id:
            raise _CannotAskError(f"answer {answer!r} is not one token: {_tokens(ids, self._tokenizer)}")
        return ids[0]

    def _with_masked_answer(self, prompt: str, answer: str) -> Passage:
        joint = _ids(self._tokenizer, [_joined(prompt, answer)], special=False)[0]
        places = tuple(range(len(joint) - _answer_length(joint, answer, self._tokenizer), len(joint)))
        masked = (*joint[: places[0]], *(self._mask for _ in places))
        return Passage(input_ids=masked, positions=places, targets=tuple(joint[place] for place in places))

    def _blanks(self, prompt: str) -> Passage:
        ids = self._masked_ids(f"{prompt}{f' {MASK}' * NUM_MASKS}")
        places = tuple(place for place, token in enumerate(ids) if token == self._mask)
        return Passage(input_ids=ids, positions=places, targets=tuple(self._mask for _ in places))

    def _masked_ids(self, text: str) -> Ids:
        return _ids(self._tokenizer, [text.replace(MASK, str(self._tokenizer.mask_token))])[0]


def _fault(example: Example) -> str:
    """Why an example cannot be asked of any model; empty where nothing is wrong with it."""
    if not example.prompt.strip():
        return "the prompt is empty"
    for answer in example.choices or (example.gold,):
        if not answer.strip():
            return f"{'choice' if example.choices else 'answer'} {answer!r} is empty"
    if example.choices and example.gold not in example.choices:
        return f"answer {example.gold!r} is none of {listing(example.choices)}"
    told = (
        example.prompt,
        example.gold,
        *example.choices,
        example.id,
        example.group,
        example.subject,
        example.relation,
    )
    for text in told:
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:  # JSON can spell one half of a pair of surrogates, which is no character
            return f"{text!r:.80} has half a character at place {error.start}"
    return ""


def _check_length(encoded: Encoded, task: Task, max_tokens: int | None) -> None:
    read = [len(passage.input_ids) for passage in (*encoded.passages, *([encoded.blanks] if encoded.blanks else []))]
    if encoded.prompt_ids:
        read.append(len(encoded.prompt_ids) + task.scoring.max_new_tokens)
    if max_tokens is not None and max(read) > max_tokens:
        raise _CannotAskError(f"{max(read)} tokens, but the model reads {max_tokens}")


def _choices(example: Example, passages: tuple[Passage, ...], *, extra: bool = False) -> Encoded:
    """`extra`: the published code counts one token too many in a masked answer."""
    gold = example.choices.index(example.gold)
    length = len(passages[gold].targets) + extra
    return Encoded(example=example, kind="choices", passages=passages, gold=gold, gold_length=length)


def _one_token(prompt: Ids, tokens: Ids, gold: int, example: Example) -> Passage:
    return Passage(
        input_ids=prompt,
        positions=(len(prompt) - 1,),
        targets=(tokens[gold],),
        candidates=tokens if example.choices else (),
    )


def _joined(prompt: str, answer: str) -> str:
    return f"{prompt} {answer.strip()}"


def _texts(example: Example) -> Iterable[str]:
    return (
        example.prompt,
        example.prompt.rstrip(),
        *(_joined(example.prompt, answer) for answer in example.choices or (example.gold,)),
    )


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], *, special: bool = True) -> list[Ids]:
    encoded = tokenizer(texts, add_special_tokens=special)["input_ids"] if texts else []
    return [tuple(ids) for ids in encoded]


def _next_token(prompt: Ids, joint: Ids, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The one token that prompt and answer together have more than the prompt; None where it is not one."""
    return joint[-1] if joint and joint[:-1] == prompt and joint[-1] != tokenizer.unk_token_id else None


def _tokens(ids: Ids, tokenizer: PreTrainedTokenizerBase) -> str:
    """The last few tokens, for a message."""
    return listing(tokenizer.convert_ids_to_tokens(list(ids[-4:])))


def _answer_length(joint: Ids, answer: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many of the last tokens read as the answer: the fewest that do (Sharma et al.'s code)."""
    wanted = answer.strip()
    for length in range(1, len(joint) + 1):
        text = str(tokenizer.decode(list(joint[-length:]), clean_up_tokenization_spaces=False)).strip()
        if text == wanted:
            return length
        if len(text) > len(wanted) + _SLACK:
            break
    raise _CannotAskError(
        f"answer {answer!r} cannot be told from the prompt: the text ends in {_tokens(joint, tokenizer)}"
    )


_SLACK = 16  # characters by which incomplete bytes may make a part longer than the whole
