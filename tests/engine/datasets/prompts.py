"""What the published experiments ask of each row, written after their description and not after the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from .rows import Files, Row

Kind = Literal["token", "choices", "generation"]
TRUE_FALSE = ("true", "false")
MALE_FEMALE = ("male", "female")
YES_NO = ("Yes", "No")
ENTAILMENT = ("entailment", "non-entailment")
PROFESSIONS = ("journalist", "poet", "composer", "model", "teacher", "architect", "painter", "professor")
_KEPT = {11: 0, 20: 1, 5: 2, 12: 3, 26: 4, 1: 5, 14: 6, 21: 7}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question. `row` counts the rows of the source from 0."""

    id: str
    row: int
    prompt: str
    gold: str
    choices: tuple[str, ...] = ()
    group: str | None = None
    subject: str | None = None
    relation: str | None = None


def kind_of(name: str, family: str) -> Kind:
    """How an answer is read: at one position, from a pass for each choice, or from what the model writes."""
    if name in ("hotpotqa", "wikidata_qa") or (name == "counterfact" and family == "llama2"):
        return "generation"
    if name == "epistemic_reasoning" or (family == "roberta" and name in ("causal_judgement", "web_of_lies")):
        return "choices"
    return "token"


def max_new_tokens(name: str) -> int:
    return 15 if name == "hotpotqa" else 10


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What the prompts depend on besides the rows; `llama` counts the tokens of HotPotQA's answers."""

    family: str
    tokenizer: PreTrainedTokenizerBase
    llama: PreTrainedTokenizerBase
    published: bool = False

    @property
    def masked(self) -> bool:
        return self.family == "roberta"

    def questions(self, name: str, files: Files) -> list[Asked]:
        return list(getattr(self, f"_{name}")(*files.values()))

    def _counterfact(self, records: Sequence[Row]) -> Any:
        for row, record in enumerate(records):
            rewrite = record["requested_rewrite"]
            prompts = [rewrite["prompt"].format(rewrite["subject"]), *record["paraphrase_prompts"]]
            for place, prompt in enumerate(prompts):
                space = "" if prompt.endswith(" ") else " "
                yield Asked(
                    id=f"{record['case_id']}/{place}",
                    row=row,
                    prompt=f"{prompt}{space}<mask>." if self.masked else prompt,
                    gold=rewrite["target_true"]["str"],
                    group=str(record["case_id"]),
                    subject=rewrite["subject"],
                    relation=rewrite["relation_id"],
                )

    def _hotpotqa(self, train: Sequence[Row], more: Sequence[Row], validation: Sequence[Row]) -> Any:
        rows = [*train[: len(validation)], *validation]
        for number, row in enumerate(rows):
            question, answer = row["question"].strip(), row["answer"].strip()
            if len(self.llama(answer)["input_ids"]) <= 15:
                end = "" if question[-1] in "?." else "?"
                yield Asked(id=str(number), row=number, prompt=f"{question}{end} The answer is", gold=answer)

    def _fever(self, *parts: Sequence[Row]) -> Any:
        number, before = 0, 0
        for rows in parts:
            for place, row in enumerate(rows):
                same = [other["label"] for other in rows if other["claim"] == row["claim"]]
                first = row["claim"] not in [other["claim"] for other in rows[:place]]
                if first and len(set(same)) == 1:
                    end = " <mask>" if self.masked else ""
                    yield Asked(
                        id=str(number),
                        row=before + place,
                        prompt=f"Consider the following claim: {stopped(row['claim'])} "
                        f"Is this claim true or false. The claim is{end}",
                        gold="true" if row["label"] == 1 else "false",
                        choices=TRUE_FALSE,
                    )
                    number += 1
            before += len(rows)

    def _bios_gender(self, *parts: Sequence[Row]) -> Any:
        end = "This person is <mask>." if self.masked else "The gender of this person is"
        for number, row in enumerate(chain(*parts)):
            yield Asked(
                id=str(number),
                row=number,
                prompt=f"Consider the following text: {self._biography(row)} "
                f"Is the person in this text a male or female? {end}",
                gold=MALE_FEMALE[row["gender"]],
                choices=MALE_FEMALE,
            )

    def _bios_profession(self, *parts: Sequence[Row]) -> Any:
        end = "What is the profession of the person in this text? The profession of this person is"
        if self.masked:
            end = "The profession of the person in the text is called <mask>."
        for number, row in enumerate(chain(*parts)):
            if row["profession"] in _KEPT:
                yield Asked(
                    id=str(number),
                    row=number,
                    prompt=f"Consider the following text: {self._biography(row)} {end}",
                    gold=PROFESSIONS[_KEPT[row["profession"]]],
                    choices=PROFESSIONS,
                )

    def _biography(self, row: Row) -> str:
        text = row["hard_text"]
        if self.masked:
            ids = self.tokenizer.encode(text, add_special_tokens=False)
            text = self.tokenizer.decode(ids[-50:])
        return stopped(text)

    def _truthfulqa(self, rows: Sequence[Row]) -> Any:
        end = " <mask>" if self.masked else ""
        for number, row in enumerate(rows):
            targets = row["mc2_targets"]
            for place, (answer, label) in enumerate(zip(targets["choices"], targets["labels"], strict=True)):
                statement = f"{row['question']} {answer}"
                if self.published:
                    statement += "" if statement.endswith(".") else "."
                else:
                    statement += " " if statement[-1] in ".?!" else ". "
                yield Asked(
                    id=f"{number}/{place}",
                    row=number,
                    prompt=f"{statement}Is this statement true or false? This statement is{end}",
                    gold="true" if label == 1 else "false",
                    choices=TRUE_FALSE,
                )

    def _epistemic_reasoning(self, *parts: Sequence[Row]) -> Any:
        return _classes(parts, ENTAILMENT)

    def _causal_judgement(self, *parts: Sequence[Row]) -> Any:
        return _classes(parts, YES_NO)

    def _wikidata_qa(self, *parts: Sequence[Row]) -> Any:
        for number, row in enumerate(chain(*parts)):
            if len(row["targets"]) == 1:
                prompt = row["inputs"] if self.masked else row["inputs"].strip()
                yield Asked(id=str(number), row=number, prompt=prompt, gold=row["targets"][0].strip())

    def _web_of_lies(self, rows: Sequence[Row]) -> Any:
        for number, row in enumerate(rows):
            yield Asked(id=str(number), row=number, prompt=row["input"], gold=row["target"], choices=YES_NO)


def stopped(text: str) -> str:
    text = text.strip()
    return text if text[-1] in ".?" else f"{text}."


def _classes(parts: Sequence[Sequence[Row]], choices: tuple[str, ...]) -> Any:
    for number, row in enumerate(chain(*parts)):
        (gold,) = row["targets"]
        yield Asked(id=str(number), row=number, prompt=row["inputs"], gold=gold, choices=choices)
