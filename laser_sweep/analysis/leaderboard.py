"""What was measured here on test, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from laser_sweep.analysis.comparisons import (
    ComparisonView,
    comparisons,
    edits_of,
    families,
    is_untouched,
    ranked,
)
from laser_sweep.analysis.published import PublishedLaser, published_laser

COLUMNS = (
    "model",
    "dataset",
    "dtype",
    "model_revision",
    "which",  # untouched or edited
    "trial_key",  # of ours
    "accuracy",  # ours, fractions in 0..1, as all accuracies here
    "stderr",
    "log_loss",  # nats
    "mean_return",  # ours, of episodes, which have no accuracy; `stderr` is then its standard error
    "action_error",
    "num_examples",
    "published_accuracy",
    "published_stderr",
    "published_log_loss",
    "published_edit",
    "published_num_examples",
    "difference",  # ours minus published
    "difference_stderr",
    "agrees",  # within two standard errors; None where one of both is not there
    "source",
)

_WHICH = ("untouched", "edited")


def leaderboard(trials: pd.DataFrame, *, everything: bool = False) -> pd.DataFrame:
    """Two rows for each model and data set on test, untouched and edited, with `COLUMNS`.

    Ours is the edit that is best on val of those that were measured on test; where none was, since the untouched model
    won, it stands in both rows. Published accuracies come without an error: theirs is √(p (1 - p) / n) of the published
    size of test, and the error of the difference is √(a² + b²), as for independent examples. Where both were asked the
    same examples the true one is smaller, so that `agrees` is lenient. With `everything` also what was published of
    models and data sets that are not in `trials`; ours is then empty.
    """
    published = {(row.model, row.dataset): row for row in published_laser()}
    rows: list[dict[str, Any]] = []
    seen = set()
    for family in families(comparisons(trials)):
        test = next((view for view in family if view.split == "test" and view.untouched is not None), None)
        if test is not None:
            seen.add((test.model, test.dataset))
            rows += _rows(test, _winner(family, test), published.get((test.model, test.dataset)))
    if everything:
        for key, row in published.items():
            if key not in seen:
                rows += [{"model": row.model, "dataset": row.dataset, **_published(row, which)} for which in _WHICH]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _winner(family: Sequence[ComparisonView], test: ComparisonView) -> pd.Series[Any]:
    """The row on test of the edit that is best on val; the untouched model's where no edit was measured on both."""
    measured = {edits_of(row): row for _, row in ranked(test.trials).iterrows()}
    for view in family:
        if view.split == "val":
            order = ranked(view.trials)
            for _, row in order[~is_untouched(order)].iterrows():
                if edits_of(row) in measured:
                    return measured[edits_of(row)]
    return measured[frozenset()]


def _rows(test: ComparisonView, winner: pd.Series[Any], published: PublishedLaser | None) -> list[dict[str, Any]]:
    found = []
    for which, row in zip(_WHICH, (test.untouched, winner), strict=True):
        if row is None:
            continue
        score, loss = test.measures.score, test.measures.loss
        ours = {
            "model": test.model,
            "dataset": test.dataset,
            "dtype": test.dtype,
            "model_revision": test.model_revision,
            "which": which,
            "trial_key": row["trial_key"],
            score.column: float(row[score.column]),
            "stderr": float(row[score.stderr]),
            loss.column: float(row[loss.column]),
            "num_examples": int(row["num_examples"]),
        }
        if published is not None:
            theirs = _published(published, which)
            difference = ours["accuracy"] - theirs["published_accuracy"]
            stderr = math.hypot(ours["stderr"], theirs["published_stderr"])
            theirs |= {"difference": difference, "difference_stderr": stderr, "agrees": abs(difference) <= 2 * stderr}
            ours |= theirs
        found.append(ours)
    return found


def _published(row: PublishedLaser, which: str) -> dict[str, Any]:
    percent, loss = (
        (row.base_accuracy, row.base_log_loss) if which == "untouched" else (row.laser_accuracy, row.laser_log_loss)
    )
    accuracy = percent / 100
    return {
        "which": which,
        "published_accuracy": accuracy,
        "published_stderr": math.sqrt(accuracy * (1 - accuracy) / row.num_examples),
        "published_log_loss": loss,
        "published_edit": "" if which == "untouched" else f"{row.tau}[{row.layer}] ρ {row.rho:g}",
        "published_num_examples": row.num_examples,
        "source": row.source,
    }
