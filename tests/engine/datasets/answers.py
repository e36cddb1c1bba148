"""One example at a time: a plain forward pass without padding, a full log-softmax, a greedy loop without cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nltk.tokenize import word_tokenize
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from .prompts import Asked, Kind

CLOSE = 1e-4  # nats
"""How much two computations in float32 may differ in log p."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is expected of one example. `gold_rank` holds the smallest and the largest that `CLOSE` leaves open."""

    prediction: str
    correct: bool
    gold_log_prob: float
    gold_length: int
    gold_rank: tuple[int, int]
    text_rank: int = -1
    f1: float | None = None


class OneByOne:
    """A model in the hands of a patient person. `edited` names a weight that is cut to `rank` by a full SVD."""

    def __init__(self, family: str, directory: Path, edited: str | None = None, rank: int = 0) -> None:
        self.masked = family == "roberta"
        self.spaced = "" if family == "llama2" else " "
        auto = AutoModelForMaskedLM if self.masked else AutoModelForCausalLM
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self.model = auto.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
        if edited is not None:
            weight = self.model.get_parameter(edited).data
            left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
            weight.copy_((left[:, :rank] * values[:rank]) @ right[:rank])
        self._last: dict[tuple[int, ...], torch.Tensor] = {}

    def figures(self, asked: Asked, kind: Kind, *, new_tokens: int = 10, published: bool = False) -> Figures:
        if kind == "token":
            return self._token(asked)
        if kind == "choices":
            return self._choices(asked, published)
        return self._generation(asked, new_tokens, published)

    @torch.no_grad()
    def log_probs(self, ids: Sequence[int]) -> torch.Tensor:
        """(tokens, vocabulary) in float64."""
        return torch.log_softmax(self.model(torch.tensor([list(ids)])).logits[0].double(), dim=-1)

    def at_answer(self, prompt: str) -> torch.Tensor:
        """log p of every token as the answer: at the mask, or behind the prompt."""
        ids = self.tokenizer(prompt)["input_ids"]
        if not self.masked:
            return self._next(tuple(ids))
        (place,) = [place for place, token in enumerate(ids) if token == self.tokenizer.mask_token_id]
        return self.log_probs(ids)[place]

    def write(self, prompt: str, new_tokens: int) -> list[int]:
        """The most probable tokens, one after the other up to the end token, which is not the first; or five masks."""
        if self.masked:
            ids = self.tokenizer(prompt + " <mask>" * 5)["input_ids"]
            best = self.log_probs(ids).argmax(dim=-1).tolist()
            return [token for place, token in zip(ids, best, strict=True) if place == self.tokenizer.mask_token_id]
        ids = self.tokenizer(prompt)["input_ids"]
        written: list[int] = []
        while len(written) < new_tokens:
            log_probs = self._next((*ids, *written)).clone()
            if not written:
                log_probs[self.tokenizer.eos_token_id] = -torch.inf
            token = int(log_probs.argmax())
            if token == self.tokenizer.eos_token_id:
                break
            written.append(token)
        return written

    def text(self, ids: Sequence[int], *, special: bool = False) -> str:
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
        return text

    def token_of(self, answer: str) -> int:
        """The one token of an answer behind a space."""
        (token,) = self.tokenizer(f"{self.spaced}{answer}", add_special_tokens=False)["input_ids"]
        return int(token)

    def _next(self, ids: tuple[int, ...]) -> torch.Tensor:
        if ids not in self._last:
            self._last[ids] = self.log_probs(ids)[-1]
        return self._last[ids]

    def _token(self, asked: Asked) -> Figures:
        log_probs = self.at_answer(asked.prompt)
        top = [self.text([token], special=True).strip() for token in log_probs.topk(10).indices.tolist()]
        gold = log_probs[self.token_of(asked.gold)]
        if asked.choices:
            of_choices = [float(log_probs[self.token_of(choice)]) for choice in asked.choices]
            prediction = asked.choices[of_choices.index(max(of_choices))]
            others = [p for choice, p in zip(asked.choices, of_choices, strict=True) if choice != asked.gold]
            correct = all(float(gold) > other for other in others)
        else:
            prediction, correct = top[0], top[0].lower() == asked.gold.lower()
        places = [place for place, text in enumerate(top) if text.lower() == asked.gold.lower()]
        return Figures(
            prediction=prediction,
            correct=correct,
            gold_log_prob=float(gold),
            gold_length=1,
            gold_rank=_ranks(log_probs[None], [float(gold)]),
            text_rank=min(places, default=-1),
        )

    def _choices(self, asked: Asked, published: bool) -> Figures:
        of_choices = {choice: self._answer(asked.prompt, choice) for choice in asked.choices}
        sums = {choice: log_prob for choice, (log_prob, _, _) in of_choices.items()}
        log_prob, length, ranks = of_choices[asked.gold]
        return Figures(
            prediction=max(sums, key=lambda choice: sums[choice]),
            correct=all(log_prob > other for choice, other in sums.items() if choice != asked.gold),
            gold_log_prob=log_prob,
            gold_length=length + (self.masked and published),
            gold_rank=ranks,
        )

    def _generation(self, asked: Asked, new_tokens: int, published: bool) -> Figures:
        written = self.write(asked.prompt, new_tokens)
        said = self.text(written)
        log_prob, length, ranks = self._answer(asked.prompt, asked.gold)
        searched = said
        if published and not self.masked:
            searched = self.text([*self.tokenizer(asked.prompt)["input_ids"], *written])
        return Figures(
            prediction=said.strip(),
            correct=asked.gold.strip().lower() in searched.strip().lower(),
            gold_log_prob=log_prob,
            gold_length=length + (self.masked and published),
            gold_rank=ranks,
            f1=f1(searched, asked.gold, published),
        )

    def _answer(self, prompt: str, answer: str) -> tuple[float, int, tuple[int, int]]:
        """Sum of log p of the tokens of an answer behind a prompt, how many there are, and the largest rank."""
        ids = self.tokenizer(f"{prompt} {answer}", add_special_tokens=not self.masked)["input_ids"]
        tails = (t for t in range(1, len(ids) + 1) if self.text(ids[-t:], special=True).strip() == answer.strip())
        length = next(tails)
        golds = ids[-length:]
        if self.masked:
            at_golds = self.log_probs(ids[:-length] + [self.tokenizer.mask_token_id] * length)[-length:]
        else:
            at_golds = self.log_probs(ids)[:-1][-length:]
        of_golds = [float(row[gold]) for row, gold in zip(at_golds, golds, strict=True)]
        return sum(of_golds), length, _ranks(at_golds, of_golds)


def f1(text: str, gold: str, published: bool) -> float:
    said, wanted = (set(word_tokenize(one.strip().lower(), preserve_line=True)) for one in (text, gold))
    common = len(said & wanted)
    precision, recall = common / max(1, len(said)), common / max(1, len(wanted))
    if published:
        return 2 * precision * recall / max(1, precision + recall)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def _ranks(log_probs: torch.Tensor, golds: Sequence[float]) -> tuple[int, int]:
    """The largest number of tokens that are more probable than the gold one, at least and at most."""
    rows = list(zip(log_probs, golds, strict=True))
    surely = max(int((row > gold + CLOSE).sum()) for row, gold in rows)
    perhaps = max(int((row > gold - CLOSE).sum()) - 1 for row, gold in rows)  # the gold token is no rival of itself
    return surely, perhaps
