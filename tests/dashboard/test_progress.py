"""How far a sweep has come, by its configuration and what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from laser_sweep.dashboard.progress import Progress, progress
from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult

from ..measured import done, failed, right, trial

UNTOUCHED = right(50)


def config(**changes: Any) -> str:
    """The configuration of a grid of `fc_in` and `fc_out`, every layer, two fractions."""
    return json.dumps(
        {
            "tau": ["fc_in", "fc_out"],
            "layer": "each",
            "rho": [0.1, 0.5],
            "dataset": {"name": "colours"},
            "evaluation": {"split": "val", "limit": None, "test_limit": None},
            "intervention": {"name": "laser", "method": "laser", "options": {}},
            "search": {"name": "grid"},
            **changes,
        }
    )


def edited(tau: str, layer: int, rho: float, number: int = 60, **where: Any) -> TrialResult:
    return done(trial((tau, layer, rho), **where), right(number), UNTOUCHED, at=layer)


def looked_at(root: Path, results: Iterable[TrialResult], asked: str, sweep: str = "mine") -> list[Progress]:
    store = ParquetStore(root)
    for result in results:
        store.write(result, sweep, asked)
    trials = read_trials(root)
    return progress(trials, np.ones(len(trials), dtype=bool))


def test_what_is_missing_of_a_grid_is_known_as_far_as_its_layers_are(tmp_path: Path) -> None:
    begun = [done(trial(), UNTOUCHED), edited("fc_in", 0, 0.1), failed(trial(("fc_in", 1, 0.5)))]
    (one,) = looked_at(tmp_path, begun, config())
    # 2 matrices x 2 layers seen so far x 2 fractions, of which one is done and one has failed.
    assert (one.done, one.failed, one.missing, one.at_least) == (2, 1, 6, True)
    (one,) = looked_at(tmp_path, [edited("fc_out", 3, 0.5)], config())
    assert (one.missing, one.at_least) == (16 - 3, True)


def test_a_sweep_that_has_measured_its_winner_has_ended(tmp_path: Path) -> None:
    grid = [edited(tau, layer, rho) for tau in ("fc_in", "fc_out") for layer in (0, 1) for rho in (0.1, 0.5)]
    best = edited("fc_out", 0, 0.5, number=90)
    last = done(trial(("fc_out", 0, 0.5), split="test"), right(80), UNTOUCHED, at=100)
    (one,) = looked_at(tmp_path, [done(trial(), UNTOUCHED), *grid, best, last], config())
    assert (one.missing, one.at_least) == (0, False)
    assert one.best is not None
    assert one.best["accuracy"] == 0.9
    assert one.confirmed is not None
    assert one.confirmed["accuracy"] == 0.8
    trials = read_trials(tmp_path)
    (one,) = progress(trials, trials["split"].eq("val").to_numpy())  # whatever is looked at
    assert not one.at_least


def test_layers_that_are_named_are_all_known(tmp_path: Path) -> None:
    (one,) = looked_at(tmp_path, [edited("fc_in", 5, 0.1)], config(tau="fc_in", layer=[5, -3], rho=[0.1, 1]))
    assert (one.missing, one.at_least) == (1, False)  # -3 of six layers is the fourth; rho=1 is no edit
    (one,) = looked_at(tmp_path, [edited("fc_in", 3, 0.1)], config(tau="fc_in", layer=[5, -3], rho=[0.1, 1]))
    assert one.missing == 0


def test_options_that_are_swept_are_cells_of_their_own(tmp_path: Path) -> None:
    clustered = {"name": "clustered", "method": "clustered", "options": {"clusters": [2, 4], "allocation": "fraction"}}
    asked = config(tau="fc_in", layer=0, rho=0.1, intervention=clustered)
    two = trial(("fc_in", 0, 0.1), intervention="clustered", options={"clusters": 2, "allocation": "fraction"})
    (one,) = looked_at(tmp_path, [done(two, right(60), UNTOUCHED)], asked)
    assert one.missing == 1


def test_what_changes_nothing_is_not_missing(tmp_path: Path) -> None:
    """All that LASER removes is the whole matrix at ρ = 1 and nothing at ρ = 0: what it keeps, the other way round."""
    removed = {"name": "removed", "method": "removed", "options": {}}
    whole = done(trial(("fc_in", 0, 0.5), intervention="removed"), right(60), UNTOUCHED)
    asked = {"tau": "fc_in", "layer": 0, "rho": [0, 0.5, 1]}
    (one,) = looked_at(tmp_path / "removed", [whole], config(intervention=removed, **asked))
    assert one.missing == 1
    edges = [done(trial(("fc_in", 0, rho), intervention="removed"), right(60), UNTOUCHED) for rho in (0.5, 1.0)]
    (one,) = looked_at(tmp_path / "both", edges, config(intervention=removed, **asked))
    assert one.missing == 0
    blocks = {"clusters": 2, "allocation": ["fraction", "equal_memory"]}
    clustered = {"name": "clustered", "method": "clustered", "options": blocks}
    half = [
        done(trial(("fc_in", 0, 0.5), intervention="clustered", options={**blocks, "allocation": how}), right(60))
        for how in blocks["allocation"]
    ]
    (one,) = looked_at(tmp_path / "clustered", half, config(intervention=clustered, **{**asked, "rho": [0.5, 1]}))
    assert one.missing == 1  # blocks that make do with the memory of one SVD keep less than everything at ρ = 1
    (one,) = looked_at(tmp_path / "kept", [edited("fc_in", 0, 0.5), edited("fc_in", 0, 0.0)], config(**asked))
    assert one.missing == 0


def test_what_another_sweep_has_stored_is_not_missing(tmp_path: Path) -> None:
    looked_at(tmp_path, [edited("fc_in", 0, 0.1), edited("fc_out", 0, 0.1)], config(rho=0.1), "earlier")
    later = looked_at(tmp_path, [edited("fc_in", 0, 0.5)], config(), "later")
    assert {one.sweep: one.missing for one in later} == {"earlier": 0, "later": 1}


def test_a_search_asks_for_no_grid_and_neither_does_a_broken_configuration(tmp_path: Path) -> None:
    (one,) = looked_at(tmp_path / "a", [edited("fc_in", 0, 0.1)], config(search={"name": "halving"}))
    assert (one.missing, one.searches) == (None, ("halving",))
    for broken in ("", "[]", "{", '{"tau": 3}', "null"):
        (one,) = looked_at(tmp_path / "b", [edited("fc_in", 0, 0.1)], broken)
        assert one.missing is None


def test_the_data_set_of_a_guard_has_no_grid(tmp_path: Path) -> None:
    found = looked_at(tmp_path, [edited("fc_in", 0, 0.1), edited("fc_in", 0, 0.1, dataset="guard")], config())
    assert {one.dataset: one.missing for one in found} == {"colours": 3, "guard": None}


def test_only_sweeps_with_trials_that_are_shown(tmp_path: Path) -> None:
    looked_at(tmp_path, [edited("fc_in", 0, 0.1)], config(), "first")
    looked_at(tmp_path, [edited("fc_out", 0, 0.1)], config(), "second")
    trials = read_trials(tmp_path)
    assert [one.sweep for one in progress(trials, trials["tau"].eq("fc_out").to_numpy())] == ["second"]
    assert progress(trials, np.zeros(len(trials), dtype=bool)) == []
    assert isinstance(trials, pd.DataFrame)
