"""The grid: every combination of the asked τ, ℓ and ρ, as edits of matrices that the model has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from laser_sweep.errors import RequestError, listing, suggestion
from laser_sweep.trial import GROUPS, TAUS, Edit, Matrix, Option

if TYPE_CHECKING:
    from laser_sweep.engine.models.layout import Layout

LayerName: TypeAlias = int | Literal["last", "each", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What the request sweeps. Each list is a sweep; `each` stands for every value, `all` for all of them at once."""

    tau: tuple[str, ...]
    layer: tuple[LayerName, ...]
    rho: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """What the `intervention` config group says: which method makes a replacement of a weight, with which options."""

    name: str
    method: Literal["laser", "randomized", "prune", "zero", "none"]
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Edits to try, and how the request named them; `layer` is None for all layers together."""

    edits: tuple[Edit, ...]
    tau: str
    layer: int | None
    rho: float


_OPTIONS: dict[str, tuple[str, ...]] = {"randomized": ("power_iterations", "seed")}
"""The options that a method takes, whole numbers all of them; a method that is not listed takes none."""


def check_options(intervention: Intervention) -> None:
    """Raises RequestError for an option that is missing, not known to the method, or not a whole number."""
    known = _OPTIONS.get(intervention.method, ())
    for name, value in intervention.options.items():
        key = f"intervention.options.{name}"
        if name not in known:
            raise RequestError(f"{key}={value} does not exist: {intervention.method} takes {listing(known) or 'none'}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise RequestError(f"{key}={value} is not a whole number of 0 or more")
    for name in known:
        if name not in intervention.options:
            raise RequestError(f"intervention.options.{name} is missing; set it with +intervention.options.{name}=<n>")


def check_taus(axes: Axes) -> None:
    """Raises RequestError for a name that no model has."""
    allowed = (*TAUS, *GROUPS, "each")
    for tau in axes.tau:
        name, dot, expert = tau.partition(".")
        if tau not in allowed and not (name in TAUS and dot and expert.isdigit()):
            raise RequestError(f"tau={tau} does not exist{suggestion(tau, allowed)}; choose from {listing(allowed)}")


def check_layers(axes: Axes, num_layers: int, model: str) -> None:
    """Raises RequestError for a layer that the model does not have."""
    for layer in axes.layer:
        if isinstance(layer, int) and not -num_layers <= layer < num_layers:
            raise RequestError(
                f"layer={layer} does not exist in {model} ({num_layers} layers, 0..{num_layers - 1}, "
                f"or -1 for the last, -2 for the one below, last, each, all)"
            )


def expand(axes: Axes, intervention: Intervention, layout: Layout, model: str) -> list[Proposal]:
    """Every distinct proposal of the grid, in the order τ, ℓ, ρ. ρ = 1 keeps everything, so it proposes no edit.

    Raises RequestError for a τ or ℓ that this model does not have.
    """
    check_taus(axes)
    check_layers(axes, layout.num_layers, model)
    proposals: dict[tuple[Edit, ...], Proposal] = {}
    if intervention.method == "none":
        return []
    taus = list(_expand_taus(axes.tau, layout, model))
    layers = list(_expand_layers(axes.layer, layout.num_layers))
    for (tau, members), layer, rho in itertools.product(taus, layers, axes.rho):
        if rho == 1 and intervention.method != "zero":
            continue
        kept = 0.0 if intervention.method == "zero" else float(rho)
        matrices = _matrices(members, layer, layout)
        if not matrices and "each" not in axes.tau and "each" not in axes.layer:
            at = "any layer" if layer is None else f"layer={layer}"
            raise RequestError(f"tau={tau} does not exist in {at} of {model}, which has {listing(layout.taus)}")
        edits = tuple(
            Edit(
                matrix=matrix,
                rho=kept,
                method=intervention.method,
                options=tuple(sorted(intervention.options.items())),
            )
            for matrix in matrices
        )
        if edits:
            proposals.setdefault(edits, Proposal(edits, tau, layer, kept))
    return list(proposals.values())


def _expand_taus(names: Sequence[str], layout: Layout, model: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, members) for each name; a group has those of its members that the model has."""
    for name in names:
        if name == "each":
            yield from ((tau, (tau,)) for tau in layout.taus)
            continue
        members = tuple(tau for tau in GROUPS.get(name, (name,)) if tau.partition(".")[0] in layout.taus)
        if not members:
            raise RequestError(
                f"tau={name} does not exist in {model}; it has {listing(layout.taus)}, "
                f"the groups {listing(GROUPS)}, and each"
            )
        yield name, members


def _expand_layers(names: Sequence[LayerName], num_layers: int) -> Iterator[int | None]:
    for name in names:
        if name == "each":
            yield from range(num_layers)
        elif name == "all":
            yield None
        else:
            yield num_layers - 1 if name == "last" else int(name) % num_layers


def _matrices(members: Sequence[str], layer: int | None, layout: Layout) -> list[Matrix]:
    """Empty where the layer has none of them: the layers of a model need not be alike."""
    layers = range(layout.num_layers) if layer is None else (layer,)
    return [matrix for at in layers for tau in members for matrix in layout.matrices(tau, at)]
