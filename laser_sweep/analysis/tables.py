"""What the analyses found, as tables for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from laser_sweep.analysis.components import common_answers, echo, shortened
from laser_sweep.analysis.flips import flip_counts, right_after, right_before
from laser_sweep.analysis.frequency import gain_by_frequency
from laser_sweep.analysis.paraphrase import paraphrases
from laser_sweep.analysis.statistics import mcnemar, paired_gain

_PROMPT_WIDTH = 44  # of a prompt that stands beside four answers in 120 characters
_ANSWER_WIDTH = 24
_PARTS = {"untouched": "untouched", "low_rank": "low-rank part", "removed": "removed part"}


@dataclass(frozen=True, slots=True)
class Page:
    """A title, a table of texts, and lines on the whole of it; `numbers` are the columns to be set to the right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]
    numbers: tuple[str, ...] = ()

    def table(self) -> Table:
        """For a terminal; what stands in a cell is not taken for markup."""
        table = Table(box=box.SIMPLE)
        for column in self.columns:
            table.add_column(column, justify="right" if column in self.numbers else "left")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def markdown(self) -> str:
        rules = ["---:" if column in self.numbers else "---" for column in self.columns]
        table = [f"| {' | '.join(map(_cell, row))} |" for row in (self.columns, *self.rows)]
        table.insert(1, f"| {' | '.join(rules)} |")
        return "\n".join([f"# {_plain(self.title)}", "", *table, "", *(f"* {_plain(line)}" for line in self.lines), ""])


def components_page(name: str, table: pd.DataFrame, rows: int) -> Page:
    """What each part of an edited matrix says, from a table of `components`."""
    shown = table.head(rows)
    return Page(
        f"what the removed components say: {name}",
        ("prompt", "gold", *_PARTS.values(), "outcome"),
        tuple(
            (
                shortened(row.prompt, _PROMPT_WIDTH),
                *(shortened(answer, _ANSWER_WIDTH) for answer in (row.gold, row.untouched, row.low_rank, row.removed)),
                row.outcome,
            )
            for row in _rows(shown)
        ),
        (_outcomes(table), _echoed(table), *_most_common(table)),
    )


def flips_page(name: str, table: pd.DataFrame, rows: int) -> Page:
    """The examples whose answer an edit made right or wrong, and what its log p(gold) did there."""
    flipped = table[table["outcome"].str.startswith("flipped")].sort_values("outcome", kind="stable").head(rows)
    counts = flip_counts(table)
    wins, losses = counts["flipped to right"], counts["flipped to wrong"]
    return Page(
        f"answers that flipped: {name}",
        ("example", "gold", "before", "after", "outcome", "log p before", "log p after", "frequency"),
        tuple(
            (
                row.example_id,
                *(shortened(answer, _ANSWER_WIDTH) for answer in (row.gold, row.before, row.after)),
                row.outcome,
                f"{row.gold_log_prob_before:.3f}",
                f"{row.gold_log_prob_after:.3f}",
                "" if pd.isna(row.frequency) else f"{row.frequency:,.6g}",
            )
            for row in _rows(flipped)
        ),
        (_outcomes(table), f"exact McNemar test of {wins:,} against {losses:,}: p = {mcnemar(wins, losses):.2g}"),
        ("log p before", "log p after", "frequency"),
    )


def frequency_page(name: str, table: pd.DataFrame, bins: int) -> Page:
    """The gain where facts are rare and where they are common."""
    found = gain_by_frequency(table, bins)
    whole = paired_gain(right_after(table).to_numpy(bool), right_before(table).to_numpy(bool))
    unknown = int(table["frequency"].isna().sum())
    lines = [f"gain over all {len(table):,} examples: {_points(whole.gain)} ± {100 * whole.stderr:.1f} points"]
    return Page(
        f"gain against frequency: {name}",
        ("frequency", "examples", "gain", "± se"),
        tuple(
            (
                f"{row.low:,.6g}" if row.low == row.high else f"{row.low:,.6g} to {row.high:,.6g}",
                f"{row.count:,}",
                _points(row.gain),
                f"{100 * row.stderr:.1f}",
            )
            for row in _rows(found)
        ),
        (*lines, *([f"left out: {unknown:,} examples whose frequency is not known"] if unknown else [])),
        ("frequency", "examples", "gain", "± se"),
    )


def paraphrases_page(name: str, table: pd.DataFrame) -> Page:
    """What becomes of groups of examples that ask the same in other words."""
    found = paraphrases(table)
    whole = found.wholly_right
    agreement = found.agreement_after - found.agreement_before
    return Page(
        f"robustness to paraphrase: {name}",
        ("", "before", "after", "change", "± se", "p"),
        (
            (
                "groups wholly right, %",
                f"{100 * found.wholly_right_before:.1f}",
                f"{100 * found.wholly_right_after:.1f}",
                _points(whole.gain),
                f"{100 * whole.stderr:.1f}",
                f"{whole.p_value:.2g}",
            ),
            (
                "agreement inside groups, %",
                f"{100 * found.agreement_before:.1f}",
                f"{100 * found.agreement_after:.1f}",
                _points(agreement),
                f"{100 * found.agreement_stderr:.1f}",
                f"{found.agreement_p_value:.2g}",
            ),
        ),
        (
            f"{found.groups:,} groups of {found.examples:,} examples: {whole.wins:,} became wholly right, "
            f"{whole.losses:,} are no more",
        ),
        ("before", "after", "change", "± se", "p"),
    )


def _rows(table: pd.DataFrame) -> Iterator[Any]:
    """Each row with its columns as attributes."""
    yield from table.itertuples(index=False)


def _outcomes(table: pd.DataFrame) -> str:
    counts = ", ".join(f"{outcome} {count:,}" for outcome, count in flip_counts(table).items())
    return f"{len(table):,} examples: {counts}"


def _echoed(table: pd.DataFrame) -> str:
    said = echo(table)
    if not said.count:
        return "no example flipped to right"
    return (
        f"the removed part alone, to the {said.count:,} that flipped to right: the untouched model's wrong answer to "
        f"{said.same:,} ({100 * said.same / said.count:.1f} %), another wrong one to {said.other:,}, the right one to "
        f"{said.right:,}"
    )


def _most_common(table: pd.DataFrame) -> Sequence[str]:
    """A line for each part: what it says most often, and how often it is right."""
    right = {
        "untouched": right_before(table).mean(),
        "low_rank": right_after(table).mean(),
        "removed": table["removed_right"].mean(),
    }
    return [
        f"{name}: right {100 * right[part]:.1f} %, says "
        + ", ".join(
            f"'{shortened(answer, _ANSWER_WIDTH)}' to {100 * count / len(table):.1f} %"
            for answer, count in common_answers(table[part])
        )
        for part, name in _PARTS.items()
    ]


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"


def _cell(text: str) -> str:
    return _plain(text).replace("|", r"\|")


def _plain(text: str) -> str:
    """Text whose characters Markdown does not take for its own."""
    return "".join(f"\\{character}" if character in r"\`*_<>[]" else character for character in text)
