from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.trial import Split

TEXT = st.text(max_size=6)
EXAMPLES = st.lists(
    st.builds(Example, id=TEXT, prompt=TEXT, gold=TEXT, choices=st.lists(TEXT, max_size=3).map(tuple)), max_size=6
).map(tuple)


def task(count: int) -> Task:
    return Task("facts", tuple(Example(id=str(i), prompt=f"prompt {i}", gold="a") for i in range(count)))


@pytest.mark.parametrize(
    ("count", "val"),
    [(5, 1), (9, 1), (10, 2), (13_086, 2_617), (65_757, 13_151), (14_618, 2_923), (5_882, 1_176), (20_321, 4_064)],
)
def test_val_is_the_first_fifth_as_published(count: int, val: int) -> None:
    asked = task(count)
    assert asked.num_val == val == int(0.2 * count)
    assert asked.split("val") == asked.examples[:val]
    assert asked.split("test") == asked.examples[val:]


@given(count=st.integers(5, 60), split=st.sampled_from(("val", "test")), limit=st.integers(1, 60), seed=st.integers())
def test_a_limit_draws_that_many_of_the_split_in_order_and_the_same_each_time(
    count: int, split: Split, limit: int, seed: int
) -> None:
    whole = task(count).split(split)
    drawn = task(count).split(split, limit, seed)
    assert len(drawn) == min(limit, len(whole))
    places = [whole.index(example) for example in drawn]
    assert places == sorted(set(places))
    assert task(count).split(split, limit, seed) == drawn


def test_another_seed_draws_other_examples() -> None:
    draws = {task(100).split("test", 10, seed) for seed in range(8)}
    assert len(draws) == 8


def test_a_draw_reaches_the_whole_split() -> None:
    drawn = {example.id for seed in range(50) for example in task(50).split("test", 10, seed)}
    assert drawn == {str(i) for i in range(10, 50)}


def test_a_draw_is_the_same_in_another_process() -> None:
    program = (
        "from laser_sweep.engine.tasks.example import Example, Task\n"
        "task = Task('facts', tuple(Example(id=str(i), prompt='p', gold='a') for i in range(100)))\n"
        "print(*(example.id for example in task.split('test', 5, 3)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [example.id for example in task(100).split("test", 5, 3)]


@pytest.mark.parametrize(
    "change", [{"prompt": "prompt 3 "}, {"gold": "b"}, {"choices": ("a", "b")}, {"choices": ("b", "a")}]
)
def test_the_revision_changes_with_anything_that_is_asked(change: dict[str, Any]) -> None:
    before = task(6)
    examples = list(before.examples)
    examples[3] = dataclasses.replace(examples[3], **change)
    assert Task("facts", tuple(examples)).revision != before.revision


def test_the_revision_tells_the_order_of_the_choices() -> None:
    one, other = (
        Task("facts", (Example(id="0", prompt="p", gold="a", choices=choices),)) for choices in (("a", "b"), ("b", "a"))
    )
    assert one.revision != other.revision


def test_the_revision_changes_with_order_and_number_of_the_examples() -> None:
    examples = task(6).examples
    assert len({Task("facts", rows).revision for rows in (examples, examples[::-1], examples[:5])}) == 3


def test_names_and_groups_are_no_part_of_the_revision() -> None:
    before = task(6)
    renamed = tuple(
        dataclasses.replace(example, id=f"other {example.id}", group="g", frequency=2.0) for example in before.examples
    )
    assert Task("other", renamed).revision == before.revision


@given(one=EXAMPLES, other=EXAMPLES)
def test_two_tasks_have_one_revision_exactly_when_they_ask_the_same(
    one: tuple[Example, ...], other: tuple[Example, ...]
) -> None:
    same = [(e.prompt, e.gold, e.choices) for e in one] == [(e.prompt, e.gold, e.choices) for e in other]
    assert (Task("facts", one).revision == Task("facts", other).revision) == same
