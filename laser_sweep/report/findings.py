"""What the rows of a comparison say, in words: the winner on test, and what to think of it.

A sweep says the same of what it has just run in `sweep.verdict`; here the store is all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from laser_sweep.analysis.classes import flip_to_constant
from laser_sweep.analysis.comparisons import ComparisonView, edits_of
from laser_sweep.analysis.multiplicity import examples_needed, expected_best_of_null
from laser_sweep.analysis.statistics import PairedGain, paired_gain
from laser_sweep.figures.words import place_text
from laser_sweep.trial import ExampleScores, Metrics

Scores: TypeAlias = Callable[[str], ExampleScores | None]
"""How a stored trial, named by its key, did on each example; None where its predictions are not stored."""

_ALSO = {
    "majority_accuracy": "majority class",
    "balanced_accuracy": "balanced",
    "f1": "F1",
    "group_accuracy": "groups wholly right",
}


def findings(val: ComparisonView, test: ComparisonView | None, scores: Scores) -> Iterator[str]:
    """Sentences on the winner of val, those on test first."""
    untouched = None if test is None else test.untouched
    if test is not None and untouched is not None:
        yield f"On test ({test.num_examples:,} examples): untouched {measured(untouched)}."
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
    return paired_gain(one.correct, other.correct)


def measured(row: pd.Series[Any]) -> str:
    """`98.7 ± 0.3 %, log-loss 0.555`, and what else the row has."""
    parts = [f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_stderr']:.1f} %, log-loss {row['log_loss']:.3f}"]
    parts += [f"{name} {100 * row[column]:.1f} %" for column, name in _ALSO.items() if pd.notna(row[column])]
    parts += (
        [f"{int(row['num_skipped']):,} rows left out"] if pd.notna(row["num_skipped"]) and row["num_skipped"] else []
    )
    return ", ".join(parts)


def gain_text(gain: PairedGain) -> str:
    """`gain +53.9 ± 1.1 points (95 %: +51.7 to +56.1), p = 5.4e-312`."""
    return (
        f"gain {100 * gain.gain:+.1f} ± {100 * gain.stderr:.1f} points "
        f"(95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f}), p = {gain.p_value:.2g}"
    )


def _on_test(
    winner: pd.Series[Any], on_test: pd.Series[Any] | None, untouched: pd.Series[Any] | None, scores: Scores
) -> Iterator[str]:
    kind = winner["intervention"]
    name = place_text(winner) if pd.isna(kind) else f"{kind} {place_text(winner)}"
    if on_test is None:
        yield (
            f"The winner on val, {name}, has {measured(winner)} there and was not measured on test. It was picked for "
            f"its figures on val, so that they are too good to be true on average."
        )
        return
    gain = paired(on_test, untouched, scores)
    yield f"The winner on val, {name}, on test: {measured(on_test)}{'' if gain is None else f', {gain_text(gain)}'}."
    if untouched is not None:
        flip = flip_to_constant(_metrics(on_test), _metrics(untouched))
        if flip is not None:
            yield f"{flip[0].upper()}{flip[1:]}."


def _luck(winner: pd.Series[Any], val: ComparisonView, scores: Scores) -> Iterator[str]:
    """Whether val has enough examples for as many candidates as were looked at."""
    gain = paired(winner, val.untouched, scores)
    looked_at, there = int(val.edited["status"].eq("done").sum()), val.num_examples
    if gain is None or there is None or looked_at < 2 or gain.gain <= 0:
        return
    changed = (gain.wins + gain.losses) / there
    needed = examples_needed(gain.gain, changed, looked_at)
    if there < needed:
        luck = expected_best_of_null(changed, there, looked_at)
        yield (
            f"Picked among {looked_at:,} on {there:,} examples, where the best of so many without any effect would "
            f"show {100 * luck:+.1f} points; to tell the winner's {100 * gain.gain:+.1f} from that takes {needed:,} "
            "examples: believe the figures on test."
        )


def _metrics(row: pd.Series[Any]) -> Metrics:
    """What `flip_to_constant` reads of a row."""

    def known(name: str) -> float | None:
        return None if pd.isna(row[name]) else float(row[name])

    counts = row["prediction_counts"]
    return Metrics(
        num_examples=int(row["num_examples"]),
        accuracy=float(row["accuracy"]),
        accuracy_stderr=float(row["accuracy_stderr"]),
        log_loss=float(row["log_loss"]),
        majority_accuracy=known("majority_accuracy"),
        balanced_accuracy=known("balanced_accuracy"),
        prediction_counts=None if counts is None or np.isscalar(counts) else tuple((str(k), int(n)) for k, n in counts),
    )
