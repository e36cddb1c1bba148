"""What the `search` config group says, for each search."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSpec:
    """Every combination of τ, ℓ, ρ and the options of the intervention."""

    name: Literal["grid"] = "grid"


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSpec:
    """The grid of the `top_matrices` places whose gradients promise most."""

    name: Literal["gradient"] = "gradient"
    score: Literal["predicted_gain", "last20"] = "predicted_gain"
    gradient_samples: int | Literal["all"] = 100
    top_matrices: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class HalvingSpec:
    """The grid on `min_examples`, then the best part of it on `reduction` times as many, up to all of val."""

    name: Literal["halving"] = "halving"
    min_examples: int = 32
    reduction: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RacingSpec:
    """The grid on `min_examples`, then on twice as many what has not been shown to be worse than the best, and so on.

    `error` bounds the chance that the best candidate is dropped.
    """

    name: Literal["racing"] = "racing"
    min_examples: int = 32
    error: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class GreedySpec:
    """Edits of several places, one put on top of the other as long as val gets no worse, in at most `max_trials`."""

    name: Literal["greedy"] = "greedy"
    max_trials: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseEdgeSpec:
    """At each place the ranks that random-matrix theory takes for signal, beside the fractions that are asked for."""

    name: Literal["noise_edge"] = "noise_edge"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptunaSpec:
    """Optuna's TPE over τ, ℓ, ρ and options: `max_trials`, asked for `batch` at a time."""

    name: Literal["optuna"] = "optuna"
    max_trials: int = 50
    batch: int = 4


SearchSpec: TypeAlias = GridSpec | GradientSpec | HalvingSpec | RacingSpec | GreedySpec | NoiseEdgeSpec | OptunaSpec

SPECS: dict[str, type] = {spec().name: spec for spec in typing.get_args(SearchSpec)}
"""By the name that `search.name` gives."""
