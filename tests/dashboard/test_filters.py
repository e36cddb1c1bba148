"""Filters let through what a loop over the trials would."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.analysis.comparisons import comparisons
from laser_sweep.dashboard.filters import Index, filtered
from laser_sweep.dashboard.url import COLUMNS, Filters

from ..measured import done, failed, right, rows, trial


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    found = []
    for model in ("tiny", "small"):
        for dataset in ("colours", "shapes"):
            found.append(done(trial(model=model, dataset=dataset, revision=model), right(50)))
            for number, (tau, layer, rho) in enumerate([("fc_out", 0, 0.1), ("fc_in", 3, 0.1), ("fc_in", 12, 0.25)]):
                edited = trial((tau, layer, rho), model=model, dataset=dataset, revision=model)
                found.append(failed(edited, f"error {number}") if number == 2 else done(edited, right(60), right(50)))
    everywhere = trial(("fc_in", 0, 0.1), ("fc_in", 1, 0.1), tau="fc_in", all_layers=True)
    composed = trial(("fc_in", 0, 0.1), ("fc_out", 1, 0.2))
    found += [done(everywhere, right(70), right(50)), done(composed, right(80), right(50))]
    return rows(tmp_path_factory.mktemp("filters"), found)


def value(row: pd.Series, column: str) -> str | None:  # type: ignore[type-arg]
    """How a page spells the value of a trial."""
    if column == "layer":
        return ("all" if pd.notna(row["tau"]) else None) if pd.isna(row["layer"]) else str(int(row["layer"]))
    return None if pd.isna(row[column]) else f"{row[column]:.5g}" if column == "rho" else row[column]


def passes(row: pd.Series, filters: Filters, *, without: str = "") -> bool:  # type: ignore[type-arg]
    chosen = all(value(row, name) in values for name, values in filters.columns() if name != without)
    names = " ".join(str(row[name]) for name in ("trial_key", "sweep", "model", "dataset", "tau", "error", "status"))
    return chosen and all(word in names.lower() for word in filters.search.lower().split())


choices = {
    "sweep": ("sweep", "other"),
    "model": ("tiny", "small", "none of these"),
    "dataset": ("colours", "shapes"),
    "split": ("val", "test"),
    "intervention": ("laser", "none"),
    "tau": ("fc_in", "fc_out", "q_proj"),
    "layer": ("0", "3", "12", "all"),
    "rho": ("0.1", "0.25", "0.3"),
    "status": ("done", "failed"),
}
filters = st.builds(
    Filters,
    **{name: st.lists(st.sampled_from(values), unique=True, max_size=2).map(tuple) for name, values in choices.items()},
    search=st.sampled_from(["", "tiny", "ERROR 2", "colours fc_in", "nothing"]),
)


@given(filters)
def test_what_passes_and_what_each_value_would_let_through(trials: pd.DataFrame, filters: Filters) -> None:
    index = Index(trials)
    assert index.passing(filters).tolist() == [passes(row, filters) for _, row in trials.iterrows()]
    facets = {facet.column: dict(zip(facet.values, facet.counts, strict=True)) for facet in index.facets(filters)}
    assert list(facets) == list(COLUMNS)
    for column, counts in facets.items():
        others = [row for _, row in trials.iterrows() if passes(row, filters, without=column)]
        for text, count in counts.items():
            assert count == sum(value(row, column) == text for row in others)
        assert set(getattr(filters, column)) <= set(counts)


def test_values_stand_in_the_order_in_which_a_person_looks_for_them(trials: pd.DataFrame) -> None:
    index = Index(trials)
    assert index.values("layer") == ["0", "3", "12", "all"]
    assert index.values("rho") == ["0.1", "0.25"]
    assert index.values("tau") == ["fc_in", "fc_out"]  # as a block applies them
    assert index.values("model") == ["small", "tiny"]


def test_untouched_models_stay_for_the_edits_that_are_held_against_them(trials: pd.DataFrame) -> None:
    index = Index(trials)
    shown = index.passing_with_baselines(Filters(tau=("fc_out",), model=("tiny",)))
    (colours, shapes) = [
        filtered(one, shown) for one in comparisons(trials) if filtered(one, shown).trials["tau"].notna().any()
    ]
    for view in (colours, shapes):
        assert view.untouched is not None
        assert list(view.edited["tau"]) == ["fc_out"]


def test_an_empty_store_has_no_values(tmp_path: Path) -> None:
    empty = rows(tmp_path, [done(trial(), right(1))]).iloc[:0]
    index = Index(empty)
    assert index.passing(Filters(search="x", tau=("fc_in",))).tolist() == []
    assert [facet.values for facet in index.facets(Filters(tau=("fc_in",)))] == [
        ("fc_in",) if column == "tau" else () for column in COLUMNS
    ]
