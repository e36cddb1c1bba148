"""A store with everything that a report can show, and the page of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from laser_sweep.probe import Probe, ProbeResult, Slopes, Spectrum
from laser_sweep.report.content import gather
from laser_sweep.report.page import page
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Evaluation, Matrix, TrialResult

from ..measured import done, failed, right, trial, written

EVIL = "<script>alert('x')</script>|`*"
"""A reason for a failure that would be markup if anything took it for that."""


def grid() -> list[TrialResult]:
    """val: 50 % untouched, the best edit 75 %, one failed; that edit and another one on test; a part of val."""
    untouched = right(50)
    found = [done(trial(), untouched, log_loss=1.5)]
    for layer in range(3):
        for rho in (0.1, 0.5):
            made = trial(("fc_in", layer, rho))
            accuracy = 75 if (layer, rho) == (2, 0.1) else 45 + layer
            found.append(done(made, right(accuracy), untouched, log_loss=1.5 - accuracy / 100))
    found.append(failed(trial(("fc_in", 3, 0.1)), error=EVIL))
    found.append(done(trial(("fc_in", 2, 0.1), ("fc_out", 2, 0.1)), right(70), untouched, at=10))
    found.append(done(trial(limit=20), right(10, 20)))
    found.append(done(trial(("fc_in", 2, 0.1), limit=20), right(15, 20), right(10, 20)))
    frequency = [float(number % 7) for number in range(400)]
    on_test = right(200, 400)
    found.append(done(trial(split="test"), on_test, frequency=frequency))
    found.append(done(trial(("fc_in", 2, 0.1), split="test"), right(280, 400), on_test, frequency=frequency))
    found.append(done(trial(("fc_in", 1, 0.1), split="test"), right(190, 400), on_test))
    return found


def probe() -> ProbeResult:
    random = np.random.default_rng(0)
    spectra = []
    for layer in range(5):
        slopes = Slopes(
            num_examples=20,
            values=random.normal(size=8),
            values_stderr=np.full(8, 0.1),
            gains=np.full(8, float(layer)),
            gains_stderr=np.full(8, 0.1),
            last20=1.0,
            last20_stderr=0.1,
        )
        values = np.sort(random.random(8))[::-1].copy()
        spectra.append(Spectrum(matrix=Matrix("fc_in", layer), shape=(8, 16), singular_values=values, slopes=slopes))
    evaluation = Evaluation(dataset="colours", revision="colours", split="val", limit=20, seed=0)
    matrices = tuple(spectrum.matrix for spectrum in spectra)
    asked = Probe(model=trial().model, matrices=matrices, evaluation=evaluation)
    return ProbeResult(probe=asked, status="done", spectra=tuple(spectra), worker="host-1", device="cpu")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> ParquetStore:
    root = tmp_path_factory.mktemp("report") / "outputs" / "store"
    made = written(root, grid(), json.dumps({"dataset": {"name": "colours"}}))
    made.write_probe(probe())
    return made


@pytest.fixture(scope="session")
def html(store: ParquetStore) -> str:
    return page(gather(store.root))


@pytest.fixture
def published(tmp_path: Path) -> Callable[[], ParquetStore]:
    """A store with a model and a data set of which there are published numbers."""

    def make() -> ParquetStore:
        named = {"model": "gptj", "dataset": "fever", "split": "test"}
        return written(tmp_path / "published", [done(trial(**named), right(502, 1000))])

    return make
