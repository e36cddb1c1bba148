"""Which figures of a comparison are worth showing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from laser_sweep.analysis import frequency
from laser_sweep.analysis.comparisons import ComparisonView
from laser_sweep.analysis.flips import flip_counts
from laser_sweep.analysis.flips import flips as flipped
from laser_sweep.figures import (
    Chart,
    by_layer,
    composition_path,
    coverage,
    flips,
    gain_by_frequency,
    gain_heat_map,
    loss_against_accuracy,
    spectrum,
)
from laser_sweep.figures.cells import ALL_LAYERS, cells, facet_axis, layer_axis, rho_axis
from laser_sweep.figures.composition import composition_steps
from laser_sweep.trial import GROUPS, TAUS

_TOP_SPECTRA = 3
_FREQUENCY_BINS = 5
_LINE = 2  # layers; a line has two ends

Read = Callable[[str], pd.DataFrame | None]
"""The predictions of a stored trial, named by its key; None where they are not stored."""


def whole(view: ComparisonView) -> Iterator[Chart]:
    """Everything that can be drawn of the rows of a comparison."""
    lossless = view.trials[view.measures.loss.column].isna().all()
    if not view.edited.empty and not lossless:
        yield loss_against_accuracy(view.trials)
    if composition_steps(view.trials):
        yield composition_path(view.trials)
    for tau in taus(view.trials):
        table = cells(view.trials, tau)
        yield gain_heat_map(view.trials, tau)
        done = table[table["status"].eq("done") & table["layer"].ne(ALL_LAYERS)]
        if done["layer"].nunique() >= _LINE:
            yield by_layer(view.trials, "score", tau)
            if not lossless:
                yield by_layer(view.trials, "loss", tau)
        if len(table) < _size(table) or table["status"].ne("done").any():
            yield coverage(view.trials, tau)


def heat_maps(view: ComparisonView) -> Iterator[Chart]:
    """The gains of a comparison, τ by τ."""
    for tau in taus(view.trials):
        yield gain_heat_map(view.trials, tau)


def spectra(view: ComparisonView, probed: pd.DataFrame, winner: pd.Series[Any] | None) -> Iterator[Chart]:
    """The matrices of the model with the largest predicted gains on the data set; without slopes, the winner's."""
    ours = probed[
        probed["model"].eq(view.model)
        & probed["model_revision"].eq(view.model_revision)
        & probed["dtype"].eq(view.dtype)
    ]
    # Several probes may have looked at one matrix: the last one counts, and rows have it first.
    sloped = ours[ours["gradient"].notna() & ours["dataset"].eq(view.dataset)].drop_duplicates(["tau", "layer"])
    if not sloped.empty:
        order = sloped["predicted_gain"].map(max).sort_values(ascending=False, kind="stable")
        chosen = sloped.loc[order.index[:_TOP_SPECTRA]]
    elif winner is not None:
        edited = {(edit["tau"], int(edit["layer"])) for edit in winner["edits"]}
        bare = ours.drop_duplicates(["tau", "layer"])
        places = zip(bare["tau"], bare["layer"], strict=True)
        chosen = bare[[(tau, int(layer)) in edited for tau, layer in places]].head(_TOP_SPECTRA)
    else:
        return
    for _, row in chosen.iterrows():
        yield spectrum(row)


def answers(edited: pd.Series[Any], untouched: pd.Series[Any], read: Read) -> Iterator[Chart]:
    """Which answers an edit flipped, and at which frequency, where the predictions of both are stored."""
    after, before = read(edited["trial_key"]), read(untouched["trial_key"])
    if after is None or before is None:
        return
    if after["correct"].isna().any():  # episodes are neither right nor wrong
        return
    try:
        table = flipped(after, before)
    except ValueError:  # not the same examples, which a row does not tell: two data sets under one name
        return
    yield flips(flip_counts(table))
    if table["frequency"].notna().any():
        yield gain_by_frequency(frequency.gain_by_frequency(table, _FREQUENCY_BINS))


def taus(trials: pd.DataFrame) -> list[str]:
    """The matrix types and groups that have cells, in the order in which a block applies them, groups last."""
    known = [*TAUS, *GROUPS]
    found = trials.loc[trials["tau"].notna() & trials["rho"].notna(), "tau"].unique()
    return sorted(found, key=lambda tau: (known.index(tau) if tau in known else len(known), tau))


def _size(table: pd.DataFrame) -> int:
    return len(facet_axis(table)) * len(layer_axis(table)) * len(rho_axis(table))
