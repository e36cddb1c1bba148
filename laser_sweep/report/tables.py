"""The tables of a report, as texts that a page and a pull request show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from laser_sweep.analysis.comparisons import ComparisonView, is_untouched
from laser_sweep.analysis.multiplicity import adjusted_p_values
from laser_sweep.figures.words import count, place_text
from laser_sweep.measures import ANSWERS, EPISODES, KINDS, Measures, measures_of

SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`headings` begin with `#` where their column is of numbers, which stand to the right; `note` is said below."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def _headings(measures: Measures) -> tuple[str, ...]:
    figures = f"#{measures.score.heading}", "#± se", f"#{measures.loss.name}", "#gain", "#p (Holm)"
    return ("intervention", "edit", *figures, "#numbers", "trial")


def best(view: ComparisonView, shown: int = SHOWN) -> Table:
    """The untouched model and the best edits of a comparison."""
    edited = view.edited
    p_values = _corrected(edited)
    order = view.ranked()
    order = order[~is_untouched(order)]
    untouched = view.untouched
    rows = [_result(row, p_values.get(row["trial_key"])) for _, row in order.head(shown).iterrows()]
    more = f"The best {shown:,} of {count(len(order), 'finished edit')}. " if len(order) > shown else ""
    return Table(
        title=f"Best on {view.split}",
        headings=_headings(view.measures),
        rows=(*([] if untouched is None else [_result(untouched)]), *rows),
        note=f"{more}± se: {_ERRORS[view.measures.score.name]}; p (Holm): {view.measures.test}, corrected for "
        f"{count(len(p_values), 'trial')}; numbers: how many the edited matrices take.",
    )


_ERRORS = {
    "accuracy": "binomial standard error; gain: points over the untouched model on the same examples",
    "return": "standard error of the mean, sd / √n; gain: over the untouched model in the same episodes",
}


def measured_on_test(test: ComparisonView) -> Table:
    """The untouched model and the edits that were measured on test."""
    order = test.ranked()
    edited = order[~is_untouched(order)]
    rows = [_result(row) for _, row in pd.concat([order[is_untouched(order)], edited.head(SHOWN)]).iterrows()]
    more = f"The best {SHOWN} of {count(len(edited), 'edit')}." if len(edited) > SHOWN else ""
    return Table(title="Measured on test", headings=_headings(test.measures), rows=tuple(rows), note=more)


def rungs(views: Sequence[ComparisonView]) -> Table:
    """A line for each part of a split that searches looked at on their way."""
    rows = []
    score, loss = views[0].measures.score, views[0].measures.loss
    for view in views:
        winner, untouched = view.winner(), view.untouched
        rows.append(
            (
                view.split,
                "" if view.num_examples is None else f"{view.num_examples:,}",
                f"{len(view.edited):,}",
                "" if untouched is None else score.number(untouched[score.column]),
                "" if winner is None else place_text(winner),
                "" if winner is None else score.number(winner[score.column]),
                "" if winner is None else loss.number(winner[loss.column]),
            )
        )
    return Table(
        title="Parts of it that searches looked at on the way",
        headings=(
            *("split", f"#{views[0].measures.example}s", "#edits", f"#untouched{' %' if score.unit else ''}", "best"),
            *(f"#{score.heading}", f"#{loss.name}"),
        ),
        rows=tuple(rows),
    )


def leaderboard(board: pd.DataFrame, trials: pd.DataFrame) -> Table | None:
    """The rows of `analysis.leaderboard`, beside what was published where anything was; None where there are none."""
    if board.empty:
        return None
    places = {
        row["trial_key"]: place_text(row) for _, row in trials[trials["trial_key"].isin(board["trial_key"])].iterrows()
    }
    published = board["published_accuracy"].notna().any()
    rows = []
    for _, row in board.iterrows():
        score, loss = (EPISODES if pd.notna(row["mean_return"]) else ANSWERS).both
        known = pd.notna(row["difference"])
        cells = [
            row["model"],
            row["dataset"],
            places.get(row["trial_key"], ""),
            score.number(row[score.column], row["stderr"]),
            loss.number(row[loss.column]),
        ]
        if published:
            cells += [
                "" if pd.isna(row["published_edit"]) else row["published_edit"] or "untouched",
                _optional(row["published_accuracy"], lambda value: f"{100 * value:.1f}"),
                _optional(row["published_log_loss"], lambda value: f"{value:.2f}"),
                f"{100 * row['difference']:+.1f} ± {100 * row['difference_stderr']:.1f}" if known else "",
                ("yes" if row["agrees"] else "no") if known else "",
                "" if pd.isna(row["source"]) else row["source"],
            ]
        rows.append(tuple(cells))
    kinds = [one for one in KINDS if board[one.score.column].notna().any()] or [ANSWERS]
    figures = [" or ".join(names) for names in zip(*((one.score.heading, one.loss.name) for one in kinds), strict=True)]
    headings = ["model", "data set", "ours", *(f"#{figure}" for figure in figures)]
    headings += ["published", "#accuracy %", "#log-loss", "#difference", "within 2 se", "source"] if published else []
    note = "On test; the untouched model, then the edit that is best on val."
    if published:
        note += (
            " Published accuracies come without an error; that of the difference takes the binomial one of the "
            "published number of examples."
        )
    return Table(title="Leaderboard", headings=tuple(headings), rows=tuple(rows), note=note)


def failures(trials: pd.DataFrame) -> Table | None:
    """Failed trials by reason, the most frequent first; None where none failed."""
    failed = trials[trials["status"].eq("failed")]
    if failed.empty:
        return None
    rows = []
    reasons = failed["error"].fillna("no reason was stored").astype(str)
    for reason, number in reasons.value_counts().items():
        which = failed[reasons.eq(str(reason))]
        named = ", ".join(f"{row['dataset']}: {place_text(row)}" for _, row in which.head(3).iterrows())
        more = f" and {len(which) - 3:,} more" if len(which) > 3 else ""
        rows.append((f"{number:,}", _shortened(str(reason)), named + more))
    return Table(
        title="Failures",
        headings=("#trials", "reason", "which"),
        rows=tuple(rows),
        note="resume=errored in the command of the sweep runs them again.",
    )


def provenance(trials: pd.DataFrame) -> Table:
    """What ran where and when, a line for each model and data set."""
    rows = []
    names = ["model", "model_revision", "dtype", "dataset"]
    for _, part in trials.groupby(names, dropna=False, sort=True):
        first = part.iloc[0]
        rows.append(
            (
                *(str(first[name]) for name in names),
                _listed(part["sweep"]),
                f"{len(part):,}",
                _when(part["started_at"].min()),
                _when(part["finished_at"].max()),
                f"{part[['seconds_factor', 'seconds_edit', 'seconds_eval']].sum().sum():,.1f}",
                _listed(part["device"]),
                _listed(part["worker"].astype(str).str.rsplit("-", n=1).str[0]),
                _listed(part["schema_version"].astype(str)),
            )
        )
    return Table(
        title="Provenance",
        headings=(
            *("model", "revision", "dtype", "data set", "sweeps", "#trials", "first started", "last finished"),
            *("#device s", "device", "machine", "schema"),
        ),
        rows=tuple(rows),
        note="Times are UTC; device s: seconds of factorisations, edits and evaluations, all workers together.",
    )


def _result(row: pd.Series[Any], p_value: float | None = None) -> tuple[str, ...]:
    untouched = not len(row["edits"])
    score, loss = measures_of(row).both
    return (
        "" if untouched else _optional(row["intervention"], str),
        "untouched" if untouched else place_text(row),
        score.number(row[score.column]),
        score.number(row[score.stderr]),
        loss.number(row[loss.column]),
        "" if untouched else score.change(row["gain"]),
        _optional(p_value, lambda value: f"{value:.2g}"),
        _optional(row["parameters"], lambda value: f"{int(value):,}"),
        str(row["trial_key"]),
    )


def _corrected(edited: pd.DataFrame) -> dict[str, float]:
    known = edited[edited["gain_p_value"].notna()]
    values = adjusted_p_values(known["gain_p_value"].to_numpy(float))
    return {str(key): float(value) for key, value in zip(known["trial_key"], values, strict=True)}


def _optional(value: Any, text: Any) -> str:
    return "" if value is None or pd.isna(value) else str(text(value))


def _listed(values: pd.Series[Any]) -> str:
    found = sorted({str(value) for value in values.dropna()} - {""})
    return ", ".join(found[:4]) + (f" and {len(found) - 4:,} more" if len(found) > 4 else "")


def _when(moment: Any) -> str:
    return "" if pd.isna(moment) else f"{moment:%Y-%m-%d %H:%M}"


def _shortened(text: str) -> str:
    return text if len(text) <= 600 else f"{text[:599]}…"
