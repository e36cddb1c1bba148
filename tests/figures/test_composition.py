"""Edits on top of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from laser_sweep.figures import composition_path
from laser_sweep.trial import Trial, TrialResult

from ..measured import done, failed, right, rows, trial

PLACES = (("fc_in", 1), ("fc_out", 1), ("fc_in", 0), ("fc_out", 0))
RHOS = (0.5, 0.1, 0.05)


def greedy(seed: int) -> tuple[list[TrialResult], list[tuple[Trial, bool]]]:
    """A greedy search as its documentation tells it, on accuracies out of a hat: what ran, and what it kept."""
    random = np.random.default_rng(seed)
    kept: dict[tuple[str, int], float] = {}
    best, path, results = (50, -1.5), [], [done(trial(), right(50), log_loss=1.5)]
    for place in PLACES:
        for rho in RHOS:
            tried = {**kept, place: rho}
            accuracy, loss = best[0] + int(random.integers(-4, 6)), 1 + random.random()
            made = trial(*((tau, layer, value) for (tau, layer), value in sorted(tried.items())))
            results.append(done(made, right(accuracy), at=len(results), log_loss=loss))
            is_kept = (accuracy, -loss) >= best
            path.append((made, is_kept))
            if not is_kept:
                break
            kept, best = tried, (accuracy, -loss)
    return results, path


@pytest.mark.parametrize("seed", range(12))
def test_the_path_of_a_greedy_search_is_found_again(tmp_path: Path, seed: int) -> None:
    results, path = greedy(seed)
    table = rows(tmp_path, results)
    several = [place for place, (made, _) in enumerate(path) if len(made.edits) > 1]
    if not several:
        pytest.skip("nothing was put together")
    start = [step for step in path[: several[0]] if step[1]][-1:]  # the single edit that was built on
    wanted = [*start, *path[several[0] :]]
    found = {}
    for trace in composition_path(table).figure.data:
        for step, key in zip(trace.x, trace.customdata, strict=True):
            found[step] = (key, trace.name == "kept")
    assert [found[step] for step in sorted(found)] == [(made.key, is_kept) for made, is_kept in wanted]


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    one, two, three = ("fc_in", 1, 0.1), ("fc_out", 1, 0.1), ("fc_in", 0, 0.1)
    return rows(
        tmp_path,
        [
            done(trial(), right(50)),
            done(trial(one), right(60), at=1),
            done(trial(one, two), right(70), at=2),
            failed(trial(two, three)),
            done(trial(one, two, three), right(65), at=3),
            done(trial(("v_proj", 0, 0.5)), right(90), at=4),
        ],
    )


def test_accuracies_stand_in_the_order_in_which_they_were_measured(table: pd.DataFrame) -> None:
    kept, dropped = composition_path(table).figure.data
    assert (list(kept.x), list(kept.y)) == ([1, 2], pytest.approx([60, 70]))
    assert (list(dropped.x), list(dropped.y)) == ([3], pytest.approx([65]))
    assert kept.marker.symbol != dropped.marker.symbol


def test_axes_have_titles_and_steps_say_what_they_changed(table: pd.DataFrame) -> None:
    layout = composition_path(table).figure.layout
    assert layout.yaxis.title.text == "accuracy (%)"
    assert "step" in layout.xaxis.title.text
    assert list(layout.xaxis.ticktext) == [
        "1<br>fc_in[1]<br>ρ 0.1",
        "2<br>fc_out[1]<br>ρ 0.1",
        "3<br>fc_in[0]<br>ρ 0.1",
    ]


def test_the_sentence_has_the_numbers(table: pd.DataFrame) -> None:
    assert composition_path(table).alt == (
        "Composition in 3 steps, 2 of them kept: accuracy goes from 50.0 % untouched to 70.0 % with "
        "fc_in[1] ρ 0.1, fc_out[1] ρ 0.1."
    )


def test_groups_of_matrices_are_no_composition(tmp_path: Path) -> None:
    mlp = trial(("fc_in", 0, 0.1), ("fc_out", 0, 0.1), tau="mlp")
    chart = composition_path(rows(tmp_path, [done(trial(), right(50)), done(mlp, right(60))]))
    assert chart.alt == "No finished trial puts edits of several places together."
    assert not chart.figure.data
    assert chart.figure.layout.yaxis.title.text


def test_a_lone_composition(tmp_path: Path) -> None:
    chart = composition_path(rows(tmp_path, [done(trial(("fc_in", 0, 0.1), ("fc_out", 0, 0.2)), right(60))]))
    assert chart.alt.startswith("Composition in 1 step, 1 of them kept: accuracy goes to 60.0 %")
