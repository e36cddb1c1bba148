"""A small grid with every kind of cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from laser_sweep.trial import TrialResult

from ..measured import EXAMPLES, Answers, done, failed, right, rows, trial

UNTOUCHED = right(50)


def changed(wins: int, losses: int) -> Answers:
    """Answers with so many more and so many fewer right than the untouched model's."""
    answers = UNTOUCHED.copy()
    answers[50 : 50 + wins] = True
    answers[:losses] = False
    return answers


GRID: dict[tuple[int, float], tuple[int, int]] = {
    (0, 0.05): (0, 30),
    (0, 0.1): (12, 2),
    (0, 0.5): (3, 2),  # one more right
    (1, 0.05): (10, 7),  # within one standard error
    (1, 0.1): (20, 0),
    (2, 0.05): (0, 0),
    (2, 0.5): (1, 9),
}
"""Wins and losses of each cell that is done; (1, 0.5) failed, (2, 0.1) was not measured."""


def results() -> list[TrialResult]:
    cells = [
        done(trial(("fc_in", layer, rho)), changed(*found), UNTOUCHED, log_loss=1 + layer - rho)
        for (layer, rho), found in GRID.items()
    ]
    return [done(trial(), UNTOUCHED, log_loss=1.5), *cells, failed(trial(("fc_in", 1, 0.5)), error="CUDA <b>died</b>")]


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return rows(tmp_path_factory.mktemp("grid"), results())


@pytest.fixture(scope="session")
def keys() -> dict[tuple[int, float], str]:
    """The trial keys of all cells that were asked for."""
    return {(layer, rho): trial(("fc_in", layer, rho)).key for layer, rho in [*GRID, (1, 0.5)]}


@pytest.fixture
def lone(tmp_path: Path) -> pd.DataFrame:
    """One trial and nothing else."""
    return rows(tmp_path, [done(trial(("fc_in", 3, 0.1)), right(40), np.zeros(EXAMPLES, dtype=bool))])
