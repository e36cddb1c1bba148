"""What the removed components say: answers of a matrix's kept part and of its removed part, beside the whole one's.

The published observation (Sharma, Ash & Misra, arXiv 2312.13558): where an edit corrects an answer, what it took away
says words of the right kind that are wrong, or very common words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from laser_sweep.analysis.flips import OUTCOMES, flips, right_after

PARTS = ("untouched", "low_rank", "removed")
_GAP = " … "


def components(
    untouched: pd.DataFrame, low_rank: pd.DataFrame, removed: pd.DataFrame, prompts: Mapping[str, str]
) -> pd.DataFrame:
    """One row for each example of three trials' predictions, those that flipped to right first.

    Columns: `example_id`, `prompt`, `gold`, the answers of the `untouched` model and of those with only the `low_rank`
    and only the `removed` part of what was edited, `removed_right` (whether the last is the right one), and `outcome`
    of the low-rank edit (one of OUTCOMES, in which order they come). `prompts` are those of the data set by example id.

    Raises ValueError where the three were not asked the same examples, or where a prompt is missing.
    """
    table = flips(low_rank, untouched)
    alone = flips(removed, untouched).set_index("example_id").loc[table["example_id"]].reset_index()
    lacking = [example for example in table["example_id"] if example not in prompts]
    if lacking:
        raise ValueError(f"{len(lacking):,} examples have no prompt, the first of them {lacking[0]}")
    found = pd.DataFrame(
        {
            "example_id": table["example_id"],
            "prompt": table["example_id"].map(prompts),
            "gold": table["gold"],
            "untouched": table["before"],
            "low_rank": table["after"],
            "removed": alone["after"],
            "removed_right": right_after(alone),
            "outcome": table["outcome"],
        }
    )
    order = found["outcome"].map(OUTCOMES.index).sort_values(kind="stable").index
    return found.loc[order].reset_index(drop=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """Of `count` examples, how often the removed part alone says the same wrong answer as the untouched model, how
    often it is `right`, and how often it says an `other` wrong answer.
    """

    count: int
    same: int
    right: int
    other: int


def echo(table: pd.DataFrame) -> Echo:
    """What the removed part alone says to those rows of `components` that flipped to right."""
    flipped = table[table["outcome"].eq("flipped to right")]
    right = flipped["removed_right"]
    same = flipped["removed"].eq(flipped["untouched"]) & ~right
    return Echo(count=len(flipped), same=int(same.sum()), right=int(right.sum()), other=int((~same & ~right).sum()))


def common_answers(answers: pd.Series[str], most: int = 3) -> list[tuple[str, int]]:
    """The answers that are given most often, and how often; of equals the first in the alphabet."""
    counts = answers.value_counts()
    ordered = sorted(((str(answer), int(count)) for answer, count in counts.items()), key=lambda one: (-one[1], one[0]))
    return ordered[:most]


def shortened(text: str, width: int) -> str:
    """A text on one line and of at most `width` characters, with words in the middle left out where it is longer.

    Of a prompt the end says what is asked, so that it keeps more of it than of the beginning.
    """
    line = " ".join(text.split())
    if len(line) <= width:
        return line
    size = (width - len(_GAP)) // 3
    head, tail = line[: size + 1], line[size + len(_GAP) - width - 1 :]  # one more, which a word may end at
    head = head[: head.rfind(" ")] if " " in head else head[:size]
    tail = tail[tail.find(" ") + 1 :] if " " in tail else tail[1:]
    return f"{head}{_GAP}{tail}"
