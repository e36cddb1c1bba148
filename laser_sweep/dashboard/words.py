"""How results are written in the page, beside what laser_sweep.figures.words has."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pandas as pd

from laser_sweep.analysis.statistics import PairedGain
from laser_sweep.measures import Measure, measures_of

NOTHING = "–"

SHARES = {
    "balanced_accuracy": "balanced accuracy",
    "majority_accuracy": "majority class",
    "top1_accuracy": "top 1",
    "top5_accuracy": "top 5",
    "top10_accuracy": "top 10",
    "f1": "F1",
    "group_accuracy": "groups wholly right",
    "success_rate": "success",
}
"""Columns with fractions that not every data set has, and what they are called."""


def score(row: pd.Series[Any] | None) -> str:
    """`45.4 ± 2.3 %`, of accuracy or return."""
    if row is None:
        return NOTHING
    measure = measures_of(row).score
    return measure.text(row[measure.column], row[measure.stderr]) or NOTHING


def loss(row: pd.Series[Any] | None) -> str:
    """`0.567`, of log-loss or action error."""
    if row is None:
        return NOTHING
    measure = measures_of(row).loss
    return measure.number(row[measure.column]) or NOTHING


def loss_with_error(row: pd.Series[Any], error: float | None) -> str:
    """`0.567 ± 0.012`."""
    measure = measures_of(row).loss
    return measure.number(row[measure.column], error) or NOTHING


def gain(row: pd.Series[Any]) -> str:
    """`+53.8 points`."""
    measure = measures_of(row).score
    change = measure.change(row["gain"])
    return f"{change}{measure.points}" if change else NOTHING


def number(value: Any, digits: int = 3) -> str:
    return NOTHING if value is None or pd.isna(value) else f"{value:,.{digits}f}"


def whole(value: Any) -> str:
    return NOTHING if value is None or pd.isna(value) else f"{int(value):,}"


def share(value: Any) -> str:
    return NOTHING if value is None or pd.isna(value) else f"{100 * value:.1f} %"


def p_value(value: Any) -> str:
    if value is None or pd.isna(value):
        return NOTHING
    return "p < 1e-300" if value < 1e-300 else f"p = {value:.2g}"


def paired(gain: PairedGain, measure: Measure) -> str:
    """`+53.9 ± 1.1 points (95 %: +51.7 to +56.1)`."""
    change = f"{measure.change(gain.gain, gain.stderr)}{measure.points}"
    return f"{change} (95 %: {measure.change(gain.low)} to {measure.change(gain.high)})"


def seconds(value: Any) -> str:
    if value is None or pd.isna(value):
        return NOTHING
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def moment(value: Any) -> str:
    """A time as UTC, to the second."""
    return NOTHING if value is None or pd.isna(value) else f"{value:%Y-%m-%d %H:%M:%S} UTC"


def ago(value: pd.Timestamp, now: datetime | None = None) -> str:
    """How long ago a time was: `3 min ago`."""
    passed = ((now or datetime.now(timezone.utc)) - value.to_pydatetime()).total_seconds()
    for unit, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if passed >= length:
            many = int(passed // length)
            return f"{many} {unit}{'s' if unit == 'day' and many > 1 else ''} ago"
    return "just now" if passed < 10 else f"{int(passed)} s ago"
