"""Each published data set on each family of models agrees with a loop over single examples, figure by figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from laser_sweep.engine.tasks.example import Task
from laser_sweep.trial import TrialResult

from .agreement import check_result
from .answers import OneByOne
from .models import PUBLISHED
from .prompts import Asked
from .rows import DATASETS
from .studies import Study

Run = Callable[..., list[TrialResult]]

RUNS = [("val", False), ("test", False), ("test", True)]
CHANGED = [
    *((family, name) for name in ("truthfulqa", "hotpotqa", "wikidata_qa") for family in PUBLISHED),
    ("llama2", "counterfact"),
    *(("roberta", name) for name in ("epistemic_reasoning", "causal_judgement", "web_of_lies")),
]
"""Where compat=published changes a figure."""
SAME = [(family, name) for family in PUBLISHED for name in DATASETS if (family, name) not in CHANGED]


def whole_groups(questions: Sequence[Asked], part: Sequence[Asked]) -> set[str]:
    everywhere, here = (Counter(asked.group for asked in some if asked.group) for some in (questions, part))
    return {group for group in here if here[group] == everywhere[group]}


def check(made: Study, loaded: Task, results: Sequence[TrialResult]) -> None:
    asked = [
        (one.id, one.row, one.prompt, one.gold, one.choices, one.group, one.subject, one.relation)
        for one in made.questions
    ]
    assert asked == [
        (one.id, one.row, one.prompt, one.gold, one.choices, one.group, one.subject, one.relation)
        for one in loaded.examples
    ]
    for result, (split, edited) in zip(results, RUNS, strict=True):
        part = made.part(split)
        check_result(result, part, made.figures(part, edited=edited), made.kind, whole_groups(made.questions, part))


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("family", PUBLISHED)
def test_every_figure_is_that_of_a_loop_over_single_examples(
    family: str,
    name: str,
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
) -> None:
    made = study(family, name)
    loaded = task(made)
    check(made, loaded, run(family, loaded, RUNS))
    untouched, edited = made.figures(made.questions), made.figures(made.part("test"), edited=True)
    assert {one.correct for one in untouched} == {True, False}
    assert edited != untouched[-len(edited) :]


@pytest.mark.parametrize(("family", "name"), CHANGED)
def test_compat_repeats_what_the_published_code_does_where_it_is_wrong(
    family: str,
    name: str,
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
) -> None:
    right, published = study(family, name), study(family, name, published=True)
    loaded = task(published)
    check(published, loaded, run(family, loaded, RUNS))
    pairs = list(zip(right.figures(right.questions), published.figures(published.questions), strict=True))
    assert any(before != after for before, after in pairs)
    if right.kind == "generation" and family != "roberta":
        assert any(after.correct > before.correct for before, after in pairs)  # the answer stands in the prompt


@pytest.mark.parametrize(("family", "name"), SAME)
def test_compat_changes_nothing_where_the_published_code_is_right(
    family: str,
    name: str,
    study: Callable[..., Study],
    task: Callable[..., Task],
    run: Run,
) -> None:
    made = study(family, name)
    loaded = task(made, compat="published")
    check(made, loaded, run(family, loaded, RUNS))


def test_the_longest_answers_of_hotpotqa_have_fifteen_tokens_of_llama(
    study: Callable[..., Study], task: Callable[..., Task], one_by_one: Callable[..., OneByOne]
) -> None:
    """With the start token; whatever model is asked."""
    made = study("gptj", "hotpotqa")
    llama = one_by_one("llama2").tokenizer
    shipped, unbounded = (
        [len(llama(one.gold)["input_ids"]) for one in task(made, **changes).examples]
        for changes in ({}, {"max_answer_tokens": None})
    )
    assert max(shipped) == 15
    assert max(unbounded) == 16
