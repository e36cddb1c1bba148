"""What stands in a report: gathered from a store, not yet laid out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from laser_sweep.analysis.comparisons import ComparisonView, comparisons, families
from laser_sweep.analysis.leaderboard import leaderboard
from laser_sweep.errors import RequestError
from laser_sweep.figures import Chart
from laser_sweep.figures.words import count, place_text
from laser_sweep.report import charts, tables
from laser_sweep.report.findings import findings, same_edits
from laser_sweep.report.tables import Table
from laser_sweep.store.reader import read_predictions, read_spectra, read_trials
from laser_sweep.store.store import ParquetStore

_GRID = 10  # edits on test, of which more are a sweep of test and not winners that were confirmed


@dataclass(frozen=True, slots=True)
class Gallery:
    """Figures of the same examples, which `title` names."""

    title: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A model on a data set: `lead` says how much was measured, `findings` what came out."""

    key: str
    title: str
    lead: str
    findings: tuple[str, ...]
    tables: tuple[Table, ...]
    galleries: tuple[Gallery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A store as it is `written` (UTC) down; `versions` are those of what wrote it."""

    store: str
    written: datetime
    versions: str
    lead: str
    leaderboard: Table | None
    sections: tuple[Section, ...]
    failures: Table | None
    provenance: Table


def gather(root: str | Path, *, figures: bool = True) -> Report:
    """Reads a store. Raises RequestError where there is none, and where it holds no trial."""
    trials = read_trials(root)
    if trials.empty:
        raise RequestError(f"store.path={root} holds no trials yet; run a sweep first")
    store, probed = ParquetStore(root), read_spectra(root)
    sections = tuple(_section(family, store, probed, figures=figures) for family in families(comparisons(trials)))
    failed = int(trials["status"].eq("failed").sum())
    lead = f"{count(len(trials), 'trial')}, {failed:,} failed; {count(len(sections), 'comparison')}."
    return Report(
        store=str(root),
        written=datetime.now(timezone.utc),
        versions=f"laser_sweep {version('laser-sweep')}, plotly {version('plotly')}",
        lead=lead,
        leaderboard=tables.leaderboard(leaderboard(trials), trials),
        sections=sections,
        failures=tables.failures(trials),
        provenance=tables.provenance(trials),
    )


def _section(family: Sequence[ComparisonView], store: ParquetStore, probed: pd.DataFrame, *, figures: bool) -> Section:
    """One model on one data set, of which `family` has val, its parts and test, each largest first."""
    vals = [view for view in family if view.split == "val"]
    tests = [view for view in family if view.split == "test"]
    val = vals[0] if vals else None
    test = tests[0] if tests else None
    main = val or test or family[0]
    shown: list[Table] = [tables.best(main)]
    if test is not None and main is not test:
        shown.append(tables.measured_on_test(test))
    parts = [*vals[1:], *tests[1:]]
    if parts:
        shown.append(tables.rungs(parts))
    return Section(
        key=main.key,
        title=f"{main.model} on {main.dataset}{f' #{main.number}' if main.number > 1 else ''}",
        lead="; ".join(_lead(view) for view in (val, test) if view is not None) + ".",
        findings=() if val is None else tuple(findings(val, test, store.scores)),
        tables=tuple(shown),
        galleries=tuple(_galleries(main, test, parts, store, probed)) if figures else (),
    )


def _lead(view: ComparisonView) -> str:
    failed = int(view.trials["status"].eq("failed").sum())
    untouched = "untouched model not measured" if view.untouched is None else "untouched model"
    return f"{_split(view)}: {untouched}, {count(len(view.edited), 'edit')}, {failed:,} failed"


def _split(view: ComparisonView) -> str:
    """`val (480 examples)`."""
    return (
        view.split if view.num_examples is None else f"{view.split} ({count(view.num_examples, view.measures.example)})"
    )


def _galleries(
    main: ComparisonView,
    test: ComparisonView | None,
    parts: Sequence[ComparisonView],
    store: ParquetStore,
    probed: pd.DataFrame,
) -> Iterator[Gallery]:
    """Figures of the whole split; of a part only where it looked at more edits, as the first rung of a search does."""
    found = [(f"On {_split(main)}", charts.whole(main))]
    widest = max(parts, key=lambda view: len(view.edited), default=None)
    if widest is not None and len(widest.edited) > len(main.edited):
        found.append((f"On {_split(widest)}, where more edits were looked at", charts.heat_maps(widest)))
    if test is not None and test is not main and len(test.edited) > _GRID:
        found.append((f"On {_split(test)}", charts.whole(test)))
    winner = main.winner()
    if winner is not None and len(winner["edits"]):
        where, edited, untouched = _pair(main, test, winner)
        if untouched is not None:
            flipped = charts.answers(edited, untouched, lambda key: _predictions(store, key))
            found.append((f"Answers of {place_text(winner)} on {_split(where)}", flipped))
    found.append(("Spectra of what was probed", charts.spectra(main, probed, winner)))
    for title, drawn in found:
        gallery = Gallery(title, tuple(drawn))
        if gallery.charts:
            yield gallery


def _pair(
    main: ComparisonView, test: ComparisonView | None, winner: pd.Series[Any]
) -> tuple[ComparisonView, pd.Series[Any], pd.Series[Any] | None]:
    """Where the winner and the untouched model were both measured, test before val, and their rows there."""
    on_test = None if test is None else same_edits(winner, test)
    if test is not None and on_test is not None and test.untouched is not None:
        return test, on_test, test.untouched
    return main, winner, main.untouched


def _predictions(store: ParquetStore, key: str) -> pd.DataFrame | None:
    return None if store.scores(key) is None else read_predictions(store.root, key)
