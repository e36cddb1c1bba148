"""What the rows of a comparison say, in words: the winner on test, and what to think of it.

A sweep says the same of what it has just run in `sweep.verdict`, in the words of `analysis.wording`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from laser_sweep.analysis.classes import flip_to_constant
from laser_sweep.analysis.comparisons import ComparisonView, edits_of
from laser_sweep.analysis.statistics import PairedGain, paired_gain
from laser_sweep.analysis.wording import gain_text, luck_text, measured_text
from laser_sweep.figures.words import place_text
from laser_sweep.measures import measures_of
from laser_sweep.trial import ExampleScores, Metrics

Scores: TypeAlias = Callable[[str], ExampleScores | None]
"""How a stored trial, named by its key, did on each example; None where its predictions are not stored."""


def findings(val: ComparisonView, test: ComparisonView | None, scores: Scores) -> Iterator[str]:
    """Sentences on the winner of val, those on test first."""
    untouched = None if test is None else test.untouched
    if test is not None and untouched is not None:
        example = test.measures.example
        yield f"On test ({test.num_examples:,} {example}s): untouched {_measured(untouched)}."
    winner = val.winner()
    if winner is None:
        yield "No trial on val is done."
    elif not len(winner["edits"]):
        yield "No edit is better than the untouched model on val."
    else:
        yield from _on_test(winner, None if test is None else same_edits(winner, test), untouched, scores)
        yield from _luck(winner, val, scores)


def same_edits(row: pd.Series[Any], view: ComparisonView) -> pd.Series[Any] | None:
    """The finished row of another comparison with the edits of `row`, None where it has none."""
    wanted = edits_of(row)
    return next((other for _, other in view.ranked().iterrows() if edits_of(other) == wanted), None)


def paired(edited: pd.Series[Any], untouched: pd.Series[Any] | None, scores: Scores) -> PairedGain | None:
    """The gain of one row over another, from the examples; None where they are not stored, or not the same."""
    if untouched is None:
        return None
    one, other = scores(edited["trial_key"]), scores(untouched["trial_key"])
    if one is None or other is None or one.example_ids != other.example_ids:
        return None
    return paired_gain(one.scores, other.scores)


def _on_test(
    winner: pd.Series[Any], on_test: pd.Series[Any] | None, untouched: pd.Series[Any] | None, scores: Scores
) -> Iterator[str]:
    kind = winner["intervention"]
    name = place_text(winner) if pd.isna(kind) else f"{kind} {place_text(winner)}"
    if on_test is None:
        yield (
            f"The winner on val, {name}, has {_measured(winner)} there and was not measured on test. It was picked for "
            f"its figures on val, so that they are too good to be true on average."
        )
        return
    gain = paired(on_test, untouched, scores)
    gained = "" if gain is None else f", {gain_text(gain, measures_of(on_test).score)}"
    yield f"The winner on val, {name}, on test: {_measured(on_test)}{gained}."
    if untouched is not None:
        flip = flip_to_constant(_metrics(on_test), _metrics(untouched))
        if flip is not None:
            yield f"{flip[0].upper()}{flip[1:]}."


def _luck(winner: pd.Series[Any], val: ComparisonView, scores: Scores) -> Iterator[str]:
    """Whether val has enough examples for as many candidates as were looked at."""
    gain = paired(winner, val.untouched, scores)
    if gain is None or val.num_examples is None:
        return
    luck = luck_text(gain, val.num_examples, int(val.edited["status"].eq("done").sum()), val.measures)
    if luck is not None:
        yield f"{luck[0].upper()}{luck[1:]}."


def _measured(row: pd.Series[Any]) -> str:
    return measured_text(_metrics(row))


def _metrics(row: pd.Series[Any]) -> Metrics:
    """What can be said of a row."""

    def known(name: str) -> float | None:
        return None if pd.isna(row[name]) else float(row[name])

    counts = row["prediction_counts"]
    return Metrics(
        num_examples=int(row["num_examples"]),
        accuracy=known("accuracy"),
        accuracy_stderr=known("accuracy_stderr"),
        log_loss=known("log_loss"),
        num_skipped=int(known("num_skipped") or 0),
        majority_accuracy=known("majority_accuracy"),
        balanced_accuracy=known("balanced_accuracy"),
        f1=known("f1"),
        group_accuracy=known("group_accuracy"),
        mean_return=known("mean_return"),
        return_stderr=known("return_stderr"),
        action_error=known("action_error"),
        success_rate=known("success_rate"),
        prediction_counts=None if counts is None or np.isscalar(counts) else tuple((str(k), int(n)) for k, n in counts),
    )
