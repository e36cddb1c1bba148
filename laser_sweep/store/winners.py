"""The untouched model and the best trial of each model and data set, on val and on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from laser_sweep.analysis.comparisons import ComparisonView, comparisons, edits_of, families
from laser_sweep.analysis.multiplicity import adjusted_p_values
from laser_sweep.analysis.statistics import PairedGain
from laser_sweep.store.pairs import Pair, Pairs
from laser_sweep.store.reader import read_trials
from laser_sweep.store.stored import python_row

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A trial as it was measured on one split; `paired` holds it against the untouched model, where both can be."""

    row: Row
    paired: PairedGain | None = None

    @property
    def gain(self) -> float | None:
        """Over the untouched model, in -1..1."""
        stored: float | None = self.row["gain"]
        return stored if self.paired is None else self.paired.gain

    @property
    def p_value(self) -> float | None:
        stored: float | None = self.row["gain_p_value"]
        return stored if self.paired is None else self.paired.p_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """What came of all trials of a model on a data set.

    `best` is the best edit on val, by accuracy, of equals by log-loss; `p_value` is that of its gain there, corrected
    (Holm) for the `num_edits` that finished. Where the untouched model is as good or better, it `loses`.
    """

    view: ComparisonView
    num_edits: int
    untouched: Standing | None
    best: Standing | None
    p_value: float | None
    loses: bool
    untouched_on_test: Standing | None
    best_on_test: Standing | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The edits of a trial on one split, beside the untouched model on the same examples where that was measured."""

    split: str
    untouched: Standing | None
    edited: Standing


def measured(store: str | Path, trial_key: str) -> list[Measured]:
    """A trial on its own split, then its edits on the largest part of the other where they were measured.

    Raises RequestError where there is no store, KeyError where the trial has not finished.
    """
    pairs = Pairs(store)
    for family in families(comparisons(read_trials(store))):
        found = [(view, row) for view in family for _, row in view.ranked().iterrows()]
        own = next(((view, row) for view, row in found if row["trial_key"] == trial_key), None)
        if own is not None:
            same = edits_of(own[1])
            others = [(view, row) for view, row in found if view.split != own[0].split and edits_of(row) == same]
            return [_beside(view, row, pairs) for view, row in (own, *others[:1])]
    raise KeyError(trial_key)


def _beside(view: ComparisonView, row: pd.Series[Any], pairs: Pairs) -> Measured:
    untouched = view.untouched
    return Measured(
        split=view.split,
        untouched=None if untouched is None else Standing(row=python_row(untouched)),
        edited=Standing(row=python_row(row), paired=_paired(untouched, row, pairs)),
    )


def winners(store: str | Path) -> list[Winner]:
    """One for each model, revision, dtype and data set, of the largest part of val on which an edit was measured.

    What a search measured on fewer examples on its way decides nothing. Raises RequestError where there is no store.
    """
    pairs = Pairs(store)
    found = []
    for family in families(comparisons(read_trials(store))):
        on_val = [view for view in family if view.split == "val" and not view.ranked().empty]
        if on_val:  # the largest part comes first
            edited = [view for view in on_val if not _edited(view).empty]
            found.append(_winner((edited or on_val)[0], family, pairs))
    return found


def _edited(view: ComparisonView) -> pd.DataFrame:
    """The finished trials with edits, best first."""
    order = view.ranked()
    return order[order["edits"].map(len).gt(0)]


def _winner(view: ComparisonView, family: Sequence[ComparisonView], pairs: Pairs) -> Winner:
    edited, first = _edited(view), view.winner()
    best = None if edited.empty else edited.iloc[0]
    untouched_on_test, best_on_test = _on_test(family, view.untouched, best)
    return Winner(
        view=view,
        num_edits=len(edited),
        untouched=_standing(view.untouched, None, pairs),
        best=_standing(best, view.untouched, pairs),
        p_value=None if best is None else _corrected(best, edited),
        loses=best is not None and first is not None and first["trial_key"] != best["trial_key"],
        untouched_on_test=_standing(untouched_on_test, None, pairs),
        best_on_test=_standing(best_on_test, untouched_on_test, pairs),
    )


def _standing(row: pd.Series[Any] | None, untouched: pd.Series[Any] | None, pairs: Pairs) -> Standing | None:
    return None if row is None else Standing(row=python_row(row), paired=_paired(untouched, row, pairs))


def _paired(untouched: pd.Series[Any] | None, row: pd.Series[Any], pairs: Pairs) -> PairedGain | None:
    pair = None if untouched is None else pairs.pair(untouched, row)
    return pair.gain if isinstance(pair, Pair) else None


def _corrected(best: pd.Series[Any], edited: pd.DataFrame) -> float | None:
    known = edited[edited["gain_p_value"].notna()]
    corrected = adjusted_p_values(known["gain_p_value"].to_numpy(dtype=float))
    by_key: dict[str, float] = dict(zip(known["trial_key"], corrected.tolist(), strict=True))
    return by_key.get(best["trial_key"])


def _on_test(
    family: Sequence[ComparisonView], untouched: pd.Series[Any] | None, best: pd.Series[Any] | None
) -> tuple[pd.Series[Any] | None, pd.Series[Any] | None]:
    """The same two on the largest part of test that has both, else the best alone, else the untouched model alone."""
    found = []
    for view in family:
        if view.split == "test":
            done = {edits_of(row): row for _, row in view.ranked().iterrows()}
            found.append(tuple(None if one is None else done.get(edits_of(one)) for one in (untouched, best)))
    first, second = min(found, key=lambda pair: (pair[1] is None, pair[0] is None), default=(None, None))
    return first, second
