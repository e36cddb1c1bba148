"""HotPotQA as LASER uses it: questions without their context, short answers (Yang et al. 2018; Sharma et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice

from laser_sweep.engine import hub
from laser_sweep.engine.tasks.example import AskedModel, BadRow, Example
from laser_sweep.engine.tasks.source import Row, parse, read_parts, text_of
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError


def examples(spec: DatasetSpec, model: AskedModel) -> Iterator[Example | BadRow]:
    """Columns `question` and `answer`.

    Of the hub's two parts, train and validation, train is cut to the length of validation. Rows whose answer has more
    than `max_answer_tokens` tokens in `answer_tokenizer`, the start token counted, are left out: of the published
    selection that is Llama's tokenizer, whatever model is asked.
    """
    parts = read_parts(spec, columns=("question", "answer"))
    count_tokens = _token_counter(spec)

    def make(number: int, row: Row) -> Iterator[Example]:
        question, answer = text_of(row, "question").strip(), text_of(row, "answer").strip()
        if spec.max_answer_tokens is None or count_tokens(answer) <= spec.max_answer_tokens:
            end = "" if question.endswith(("?", ".")) else "?"
            yield Example(id=str(number), row=number, prompt=f"{question}{end} The answer is", gold=answer)

    *first, last = parts
    return parse(chain(*(islice(part, len(last)) for part in first), last), make)


def _token_counter(spec: DatasetSpec) -> Callable[[str], int]:
    if spec.max_answer_tokens is None:
        return len
    from transformers import AutoTokenizer

    path = spec.answer_tokenizer
    if path is None:
        raise RequestError(
            "dataset.max_answer_tokens needs dataset.answer_tokenizer=<hub id or directory>, or set it to null"
        )
    located = hub.locate(path, override="dataset.answer_tokenizer", patterns=("tokenizer*", "*.json", "*.model"))
    tokenizer = AutoTokenizer.from_pretrained(located.directory, trust_remote_code=False)
    return lambda text: len(tokenizer(text)["input_ids"])
