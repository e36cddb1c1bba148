"""Which trials can be compared with each other: the same model, asked the same examples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from laser_sweep.measures import ANSWERS, EPISODES, Measures
from laser_sweep.trial import content_key

_IDENTITY = ("model", "model_revision", "dtype", "dataset", "split", "limit")
_SAME = 1e-9  # rounding of score minus gain


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComparisonView:
    """Trials of one model on the same examples; `limit` is how many of the split were asked for, None for all of it.

    `trials` are the rows of `read_trials`, the untouched model's and failed ones among them. `number` tells apart what
    is alike in all else: data sets under one name (`jsonl`) with other examples, other seeds of a limit.
    """

    model: str
    model_revision: str
    dtype: str
    dataset: str
    split: str
    limit: int | None
    number: int
    trials: pd.DataFrame

    @property
    def key(self) -> str:
        """8 hexadecimal characters that stay the same while trials are added: for addresses."""
        identity = {name: getattr(self, name) for name in (*_IDENTITY, "number")}
        return content_key(identity)[:8]

    @property
    def title(self) -> str:
        """`gptj on fever, val (2,617 examples)`."""
        count = self.num_examples
        examples = [] if count is None else [f"{count:,} {self.measures.example}{'' if count == 1 else 's'}"]
        limit = [] if self.limit is None else [f"limit {self.limit:,}"]
        details = f" ({', '.join(examples + limit)})" if examples or limit else ""
        return f"{self.model} on {self.dataset}, {self.split}{details}{f' #{self.number}' if self.number > 1 else ''}"

    @property
    def num_examples(self) -> int | None:
        """How many examples each finished trial was asked, None where none finished."""
        counts = self.trials["num_examples"].dropna()
        return None if counts.empty else int(counts.max())

    @property
    def untouched(self) -> pd.Series[Any] | None:
        """The row of the untouched model, None where it is not there or failed."""
        return untouched_row(self.trials)

    @property
    def measures(self) -> Measures:
        """What its trials are judged by."""
        return measures_in(self.trials)

    @property
    def edited(self) -> pd.DataFrame:
        """The rows of edited models, failed ones among them."""
        return self.trials[~is_untouched(self.trials)]

    def ranked(self, by: Literal["score", "loss"] = "score") -> pd.DataFrame:
        """The rows of finished trials, best first; of those that are alike in everything the untouched model first."""
        return ranked(self.trials, by)

    def winner(self, by: Literal["score", "loss"] = "score") -> pd.Series[Any] | None:
        """The row with the best score, of equals the one with the lowest loss; None where nothing is done.

        The untouched model takes part. With `by="loss"` it is the other way round.
        """
        order = self.ranked(by)
        return None if order.empty else order.iloc[0]


def comparisons(trials: pd.DataFrame) -> list[ComparisonView]:
    """What can be compared among the rows of `read_trials`.

    By model and data set; val before test, the whole split before its parts, of which the largest first. The parts
    that a search looked at on its way are comparisons of their own.
    """
    views = []
    for _, rows in trials.groupby(list(_IDENTITY), dropna=False, sort=False):
        model, revision, dtype, dataset, split, limit = rows.iloc[0][list(_IDENTITY)]
        for number, part in enumerate(_by_examples(rows), start=1):
            views.append(
                ComparisonView(
                    model=str(model),
                    model_revision=str(revision),
                    dtype=str(dtype),
                    dataset=str(dataset),
                    split=str(split),
                    limit=None if pd.isna(limit) else int(limit),
                    number=number,
                    trials=part,
                )
            )
    return sorted(views, key=_place)


def is_untouched(trials: pd.DataFrame) -> pd.Series[bool]:
    """Which rows are of the untouched model, which has no edits."""
    return trials["edits"].map(len).eq(0)


def untouched_row(trials: pd.DataFrame) -> pd.Series[Any] | None:
    """The finished row of the untouched model among those of one comparison."""
    found = trials[is_untouched(trials) & trials["status"].eq("done")]
    return None if found.empty else found.iloc[0]


def edits_of(row: pd.Series[Any]) -> frozenset[tuple[str, int, float, str, str]]:
    """What is done to which matrix: τ, ℓ, ρ, method and options. The same on val and on test for the same edits."""
    return frozenset(
        (edit["tau"], int(edit["layer"]), float(edit["rho"]), edit["method"], edit["options"] or "{}")
        for edit in row["edits"]
    )


def families(views: Sequence[ComparisonView]) -> list[list[ComparisonView]]:
    """Comparisons of one model on one data set beside each other: val, its parts, test, in the order of `comparisons`.

    Data sets that only share their name are kept apart by the configuration of their trials.
    """
    named: dict[tuple[str, ...], list[ComparisonView]] = {}
    for view in views:
        named.setdefault((view.model, view.dataset, view.dtype, view.model_revision), []).append(view)
    found = []
    for alike in named.values():
        if all(view.number == 1 for view in alike):
            found.append(alike)
            continue
        by_question: dict[str, list[ComparisonView]] = {}
        for view in alike:
            row = view.trials.iloc[0] if view.untouched is None else view.untouched
            by_question.setdefault(repr(_asked(row["config_json"])), []).append(view)
        found.extend(by_question.values())
    return found


def measures_in(trials: pd.DataFrame) -> Measures:
    """What the trials of one comparison are judged by."""
    return EPISODES if trials["mean_return"].notna().any() else ANSWERS


def ranked(trials: pd.DataFrame, by: Literal["score", "loss"] = "score") -> pd.DataFrame:
    """The finished rows, best first, in the order of `analysis.selection.ranked`."""
    done = trials[trials["status"].eq("done")]
    measures = measures_in(trials)
    keys = pd.DataFrame(
        {
            "score": -done[measures.score.column].astype(float),
            "loss": done[measures.loss.column].astype(float),
            "edited": ~is_untouched(done),
            "trial_key": done["trial_key"],
        }
    )
    first, second = ("score", "loss") if by == "score" else ("loss", "score")
    return done.loc[keys.sort_values([first, second, "edited", "trial_key"]).index]


def _place(view: ComparisonView) -> tuple[Any, ...]:
    whole_first = -np.inf if view.limit is None else -view.limit
    split = {"val": 0, "test": 1}.get(view.split, 2)
    return view.model, view.dataset, view.dtype, view.model_revision, split, whole_first, view.number


def _by_examples(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Cuts rows that are named alike into those that were asked the same.

    Rows do not say which examples they are of, but each was held against the untouched model on its own, so that
    its score minus gain is that one's score. Where this does not tell, the configuration does.
    """
    score = measures_in(rows).score.column
    untouched = rows[is_untouched(rows) & rows["status"].eq("done")].sort_values("trial_key")
    if len(untouched) < 2:
        yield rows
        return
    asked = {key: _asked(config) for key, config in zip(untouched["trial_key"], untouched["config_json"], strict=True)}
    homes = []
    for _, row in rows.iterrows():
        base = row[score] - row["gain"]
        same_count = untouched["num_examples"].eq(row["num_examples"])
        alike = untouched[same_count & (untouched[score] - base).abs().lt(_SAME)]
        candidates = list(alike["trial_key"]) or list(untouched["trial_key"])
        same = [key for key in candidates if asked[key] == _asked(row["config_json"])]
        homes.append(row["trial_key"] if row["trial_key"] in asked else (same or candidates)[0])
    for key in untouched["trial_key"]:
        yield rows[[home == key for home in homes]]


def _asked(config_json: object) -> object:
    """What of a configuration decides which examples are asked, and how."""
    try:
        config = json.loads(str(config_json))
        return config["dataset"], config["seed"], config["evaluation"].get("exact")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
