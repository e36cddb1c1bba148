"""The vocabulary of a look at matrices before trials are chosen: their spectra, and the slope of the loss along
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from laser_sweep.trial import METRIC_VERSION, Evaluation, Matrix, ModelId, content_key

Curve = npt.NDArray[np.float64]

NUM_LAST = 20
"""How many of the smallest singular values the published score adds up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Matrices of a model to look at; with an `evaluation` also the gradient of the log-loss on its examples."""

    model: ModelId
    matrices: tuple[Matrix, ...]
    evaluation: Evaluation | None = None

    @property
    def key(self) -> str:
        """16 hexadecimal characters of blake2b over what changes the numbers, as the key of a trial."""
        asked = self.evaluation
        return content_key(
            {
                "model": [self.model.repo, self.model.revision, self.model.dtype],
                "matrices": sorted([matrix.tau, matrix.layer] for matrix in self.matrices),
                "evaluation": None
                if asked is None
                else [asked.revision, asked.split, asked.limit, asked.seed, METRIC_VERSION],
            }
        )

    def describe(self) -> str:
        """How a person names this probe: `gradients of 56 matrices`."""
        what = "spectra" if self.evaluation is None else "gradients"
        return f"{what} of {len(self.matrices)} {'matrix' if len(self.matrices) == 1 else 'matrices'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slopes:
    """The gradient of the log-loss along the singular directions of one matrix, strongest direction first.

    `values` (r,) is g_i = dL/dσ_i = u_iᵀ (dL/dW) v_i, in nats, the mean over the examples, so that a positive one says
    that the loss falls when σ_i shrinks. `gains` (r,) is what removing direction i and all weaker ones is predicted to
    take off the loss to first order, the sum over j >= i of σ_j g_j. `last20` is the published score, the sum of
    max(0, g_i) over the 20 weakest directions. Each `_stderr` is the standard error over the examples.
    """

    num_examples: int
    values: Curve
    values_stderr: Curve
    gains: Curve
    gains_stderr: Curve
    last20: float
    last20_stderr: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """The singular values (r,), descending, of one matrix of `shape` (m, n), r = min(m, n), and the slopes along
    them.
    """

    matrix: Matrix
    shape: tuple[int, int]
    singular_values: Curve
    slopes: Slopes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What became of a probe. `done` has a spectrum for each matrix, in order; `failed` has the reason in `error`."""

    probe: Probe
    status: Literal["done", "failed"]
    error: str | None = None
    spectra: tuple[Spectrum, ...] = ()
    attempt: int = 1
    worker: str = ""
    device: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == "done"
