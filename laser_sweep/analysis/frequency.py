"""Gain against how often a fact stands in the training data."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from laser_sweep.analysis.counts import KEYS, read_counts
from laser_sweep.analysis.flips import right_after, right_before
from laser_sweep.analysis.statistics import paired_gain
from laser_sweep.errors import RequestError, listing

_COLUMNS = ("low", "high", "count", "gain", "stderr")


def gain_by_frequency(table: pd.DataFrame, bins: int) -> pd.DataFrame:
    """The gain over the examples of a table of `flips` in bins of about as many examples each, rarest facts first.

    A row for each bin: the `low`est and the `high`est frequency in it, the `count` of its examples, `gain` (accuracy
    after minus before, in -1..1) and its paired standard error. What has one frequency is in one bin, so that there may
    be fewer bins than asked for. Examples without a frequency are left out.

    Raises ValueError where no example has one.
    """
    if bins < 1:
        raise ValueError(f"bins={bins} is too small; give 1 or more")
    frequency = table["frequency"].astype(float)
    known = frequency.notna()
    if not known.any():
        raise ValueError("no example has a frequency: the data set has none; join a file of counts")
    rows = pd.DataFrame(
        {"frequency": frequency[known], "before": right_before(table)[known], "after": right_after(table)[known]}
    )
    found = []
    for _, part in rows.groupby(_bins(rows["frequency"], bins), sort=True):
        paired = paired_gain(part["after"].to_numpy(bool), part["before"].to_numpy(bool))
        low, high = part["frequency"].min(), part["frequency"].max()
        found.append((low, high, len(part), paired.gain, paired.stderr))
    return pd.DataFrame(found, columns=list(_COLUMNS))


def _bins(frequency: pd.Series[float], bins: int) -> pd.Series[int]:
    """The number of the bin of each example: where the middle of those of its frequency stands among all."""
    middle = (frequency.rank(method="min") + frequency.rank(method="max") - 1) / 2 / len(frequency)  # within (0, 1)
    return (middle * bins).astype(int)


class Joined(NamedTuple):
    """A table of `flips` with frequencies from a file, of `found` of its examples, and the columns they are from."""

    table: pd.DataFrame
    key: str
    column: str
    found: int


def join_counts(table: pd.DataFrame, counts: str) -> Joined:
    """Puts the counts of a CSV, Parquet or JSONL file in the place of the frequencies of a table of `flips`.

    The file has a column `frequency` or `count`, and says what it counts by `example_id`, `subject` or `gold`: the
    first of these columns that it has and that the examples have too. Examples that it does not count have no
    frequency.

    Raises RequestError for a file that cannot be read as this, and for one that counts none of the examples.
    """
    keys = [key for key in KEYS if table[key].notna().any()]
    read = read_counts(counts, keys)
    frequency = table[read.key].str.strip().map(read.counts).astype(float)
    found = int(frequency.notna().sum())
    if not found:
        raise RequestError(
            f"counts={counts} counts no {read.key} of these examples: it has {listing(list(read.counts)[:3])}, "
            f"they have {listing(table[read.key].dropna().unique()[:3])}"
        )
    return Joined(table.assign(frequency=frequency), read.key, read.column, found)
