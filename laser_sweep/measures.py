"""What trials are judged by: figures of merit, which end of each is the good one, and how a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Objective: TypeAlias = Literal[
    "accuracy",
    "log_loss",
    "return",
    "action_error",
    "mean_accuracy",
    "mean_log_loss",
    "mean_return",
    "mean_action_error",
]
"""What decides: the score, as published, or the loss; the other one decides between equals. `mean_…` is over several
data sets, which then have one winner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of merit: the column of the store that holds it and its standard error, and how a person reads it.

    A person reads `scale` times the value, with `decimals`, in `unit`; differences are in `points`.
    """

    name: str
    column: str
    objective: Objective
    larger_is_better: bool
    stderr: str = ""
    scale: float = 1.0
    decimals: int = 1
    unit: str = ""
    points: str = ""

    @property
    def heading(self) -> str:
        """`accuracy %`, over a column of numbers."""
        return f"{self.name} %" if self.unit == " %" else self.name

    @property
    def label(self) -> str:
        """What stands before a number in a sentence: nothing where its unit says what it is."""
        return "" if self.unit == " %" else f"{self.name} "

    def number(self, value: float | None, stderr: float | None = None) -> str:
        """`45.4`, `45.4 ± 2.3`; nothing where there is no value."""
        if value is None or math.isnan(value):
            return ""
        error = "" if stderr is None or math.isnan(stderr) else f" ± {self.number(stderr)}"
        return f"{self.scale * value:.{self.decimals}f}{error}"

    def text(self, value: float | None, stderr: float | None = None) -> str:
        """`45.4 ± 2.3 %`; nothing where there is no value."""
        number = self.number(value, stderr)
        return f"{number}{self.unit}" if number else ""

    def change(self, difference: float | None, stderr: float | None = None) -> str:
        """`+53.9 ± 1.1`, of a difference of two values."""
        number = self.number(difference, stderr)
        return number if not number or number.startswith("-") else f"+{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """The score and the loss of trials of one kind, and the test of a score's gain on the same examples."""

    score: Measure
    loss: Measure
    test: str
    example: str

    @property
    def both(self) -> tuple[Measure, Measure]:
        """Score and loss."""
        return self.score, self.loss

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return self.score.objective, self.loss.objective


ANSWERS = Measures(
    score=Measure(
        name="accuracy",
        column="accuracy",
        objective="accuracy",
        larger_is_better=True,
        stderr="accuracy_stderr",
        scale=100.0,
        unit=" %",
        points=" points",
    ),
    loss=Measure(
        name="log-loss", column="log_loss", objective="log_loss", larger_is_better=False, decimals=3, unit=" nats"
    ),
    test="exact McNemar test",
    example="example",
)
"""Of answers to prompts: right or wrong, and -log p of the gold answer."""

EPISODES = Measures(
    score=Measure(
        name="return",
        column="mean_return",
        objective="return",
        larger_is_better=True,
        stderr="return_stderr",
        decimals=2,
    ),
    loss=Measure(
        name="action error", column="action_error", objective="action_error", larger_is_better=False, decimals=4
    ),
    test="paired t-test",
    example="episode",
)
"""Of episodes in an environment: the sum of their rewards, and how far actions are from recorded ones."""

KINDS = (ANSWERS, EPISODES)
BETTER: Mapping[str, Literal["max", "min"]] = {
    measure.column: "max" if measure.larger_is_better else "min"
    for kind in KINDS
    for measure in (kind.score, kind.loss)
}
"""Which end of each measure is the good one, by column."""


def measures_of(row: Any) -> Measures:
    """What a row of the store is judged by; one that failed, by accuracy."""
    value = row["mean_return"]
    return ANSWERS if value is None or value != value else EPISODES  # nan is not itself


def by_score(objective: Objective) -> bool:
    """Whether the score decides, and the loss only between equals."""
    return any(objective.removeprefix("mean_") == kind.score.objective for kind in KINDS)
