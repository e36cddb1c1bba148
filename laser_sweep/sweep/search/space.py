"""The space of a search: the places that an edit can have, what can be done there, and every combination of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from laser_sweep.errors import RequestError, listing, suggestion
from laser_sweep.sweep.protocols import Candidate
from laser_sweep.trial import GROUPS, TAUS, Edit, Matrix, Option

if TYPE_CHECKING:
    from laser_sweep.engine.models.layout import Layout

LayerName: TypeAlias = int | Literal["last", "each", "all"]
Options: TypeAlias = tuple[tuple[str, Option], ...]
_VARIED = ("laser", "randomized", "clustered", "prune")
"""The methods that keep more the larger ρ is, so that a search can vary it."""
LOW_RANK = ("laser", "randomized", "clustered")
"""And those that keep leading singular directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What the request sweeps. Each list is a sweep; `each` stands for every value, `all` for all of them at once."""

    tau: tuple[str, ...]
    layer: tuple[LayerName, ...]
    rho: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """What the `intervention` config group says: which method makes a replacement of a weight, with which options.

    A list among the options sweeps.
    """

    name: str
    method: Literal["laser", "removed", "randomized", "clustered", "prune", "zero", "none"]
    options: dict[str, Option | list[Option]] = field(default_factory=dict)

    def settings(self) -> tuple[Options, ...]:
        """Every combination of the options' values, without those that change nothing."""
        names = sorted(self.options)
        values = [value if isinstance(value, list) else [value] for value in (self.options[name] for name in names)]
        found = (tuple(zip(names, chosen, strict=True)) for chosen in itertools.product(*values))
        return tuple(dict.fromkeys(_with_effect(options) for options in found))


def _with_effect(options: Options) -> Options:
    """A seed is part of what a trial is only where something is drawn."""
    drawn = dict(options).get("partition") != "consecutive"
    return tuple((name, value) for name, value in options if drawn or name != "seed")


@dataclass(frozen=True, slots=True)
class Place:
    """Matrices that one trial edits together, as the request named them; `layer` is None for all layers."""

    tau: str
    layer: int | None
    matrices: tuple[Matrix, ...]

    def __str__(self) -> str:
        return f"{self.tau}[{'all' if self.layer is None else self.layer}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What one request lets a search choose from: a place, the options of its intervention, and a fraction `rho`."""

    intervention: Intervention
    places: tuple[Place, ...]
    rhos: tuple[float, ...]

    def candidate(self, place: Place, rho: float, options: Options) -> Candidate:
        """The edit of one place."""
        kept = 0.0 if self.intervention.method == "zero" else float(rho)
        edits = tuple(
            Edit(matrix=matrix, rho=kept, method=self.intervention.method, options=options) for matrix in place.matrices
        )
        return Candidate(edits=edits, intervention=self.intervention.name, tau=place.tau, layer=place.layer, rho=kept)

    def grid(self, places: Iterable[Place] | None = None) -> list[Candidate]:
        """Every distinct candidate, in the order τ, ℓ, options, ρ, at all places or at some.

        What keeps everything is none: ρ = 1, unless blocks have to make do with the memory of one SVD, and ρ = 0 of
        what LASER removes.
        """
        if self.intervention.method == "none":
            return []
        found: dict[tuple[Edit, ...], Candidate] = {}
        at = self.places if places is None else places
        for place, options, rho in itertools.product(at, self.intervention.settings(), self.rhos):
            if self._changes(rho, options):
                candidate = self.candidate(place, rho, options)
                found.setdefault(candidate.edits, candidate)
        return list(found.values())

    def _changes(self, rho: float, options: Options) -> bool:
        if self.intervention.method == "removed":
            return rho != 0
        at_full_rank = self.intervention.method == "zero" or dict(options).get("allocation", "fraction") != "fraction"
        return rho != 1 or at_full_rank


def distinct(spaces: Iterable[Space]) -> tuple[Space, ...]:
    """Each space once: requests for several data sets have the same."""
    found: list[Space] = []
    for space in spaces:
        if space not in found:
            found.append(space)
    return tuple(found)


def places(spaces: Iterable[Space]) -> list[Place]:
    """The distinct places of several spaces, in their order."""
    return list(dict.fromkeys(place for space in spaces for place in space.places))


def grid(spaces: Iterable[Space], at: Collection[Place] | None = None) -> list[Candidate]:
    """The distinct candidates of several spaces, in their order, at all places or at some."""
    found: dict[tuple[Edit, ...], Candidate] = {}
    for space in spaces:
        for candidate in space.grid([place for place in space.places if at is None or place in at]):
            found.setdefault(candidate.edits, candidate)
    return list(found.values())


def check_varies(
    search: str, spaces: Iterable[Space], methods: Collection[str] = _VARIED, *, may_be_empty: bool = False
) -> None:
    """Raises RequestError for an intervention that a search cannot vary, and where it has nothing to choose from.

    What is at fault shows without a model, so the places of the spaces may be unknown yet.
    """
    for space in spaces:
        intervention = space.intervention
        if intervention.method not in methods:
            raise RequestError(
                f"search={search} cannot vary intervention={intervention.name} ({intervention.method}); give an "
                f"intervention whose method is {' or '.join(methods)}, or search=grid"
            )
    if not may_be_empty and all(rho == 1 for space in spaces for rho in space.rhos):
        raise RequestError(f"search={search} has nothing to choose from: rho=1 keeps everything; give smaller rho")


def _whole(least: int) -> Callable[[Option], str | None]:
    def check(value: Option) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
        return None if fits else f"is not a whole number of {least} or more"

    return check


def _one_of(*allowed: str) -> Callable[[Option], str | None]:
    return lambda value: None if value in allowed else f"does not exist; choose one of {listing(allowed)}"


_OPTIONS: Mapping[str, Mapping[str, Callable[[Option], str | None]]] = {
    "randomized": {"power_iterations": _whole(0), "seed": _whole(0)},
    "clustered": {
        "clusters": _whole(1),
        "allocation": _one_of("fraction", "equal_memory", "pooled"),
        "partition": _one_of("consecutive", "subspaces"),
        "seed": _whole(0),
    },
}
"""The options that a method takes and what is wrong with a value; a method that is not listed takes none."""


def check_options(intervention: Intervention) -> None:
    """Raises RequestError for an option that is missing, not known to the method, or of a wrong value."""
    known = _OPTIONS.get(intervention.method, {})
    for name, given in intervention.options.items():
        key = f"intervention.options.{name}"
        if name not in known:
            raise RequestError(f"{key}={given} does not exist: {intervention.method} takes {listing(known) or 'none'}")
        if given == []:
            raise RequestError(f"{key}=[] is empty; give a value or a list of them")
        for value in given if isinstance(given, list) else [given]:
            wrong = known[name](value)
            if wrong is not None:
                raise RequestError(f"{key}={value} {wrong}")
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


def find_space(axes: Axes, intervention: Intervention, layout: Layout, model: str) -> Space:
    """The places that τ and ℓ name in this model, in their order, and what can be done there.

    Raises RequestError for a τ or ℓ that the model does not have.
    """
    check_taus(axes)
    check_layers(axes, layout.num_layers, model)
    places: dict[tuple[Matrix, ...], Place] = {}
    taus = list(_expand_taus(axes.tau, layout, model))
    layers = list(_expand_layers(axes.layer, layout.num_layers))
    for (tau, members), layer in itertools.product(taus, layers):
        matrices = tuple(_matrices(members, layer, layout))
        if not matrices and "each" not in axes.tau and "each" not in axes.layer:
            at = "any layer" if layer is None else f"layer={layer}"
            raise RequestError(f"tau={tau} does not exist in {at} of {model}, which has {listing(layout.taus)}")
        if matrices:
            places.setdefault(matrices, Place(tau, layer, matrices))
    return Space(intervention=intervention, places=tuple(places.values()), rhos=axes.rho)


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
