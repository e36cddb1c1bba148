"""What the `model` config group says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from laser_sweep.errors import RequestError, listing, suggestion
from laser_sweep.trial import TAUS

Roles: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]
"""(τ, endings of the names of its linear maps), sorted: a mapping that can be part of a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """How to load a model; `path` is a hub id or a directory. `roles` come from `read_roles`.

    `made_by` is the command that makes a directory which is not there.
    """

    name: str
    path: str
    revision: str = "main"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    family: Literal["auto", "causal", "masked", "decision_transformer"] = "auto"
    roles: Roles = ()
    device_map: Literal["single", "auto", "balanced"] = "single"
    made_by: str | None = None


def read_roles(given: object) -> Roles:
    """Roles from a mapping of τ to one ending or several, e.g. {"fc_in": ["w1"], "fc_out": "w2"}.

    Raises RequestError for a name that is no τ, for what are no endings, and for an ending with two roles.
    """
    if not isinstance(given, Mapping):
        raise RequestError(f"model.roles={given} does not say which matrix is which; give e.g. +model.roles.fc_in=[w1]")
    roles: dict[str, tuple[str, ...]] = {}
    for tau, endings in given.items():
        if tau not in TAUS:
            raise RequestError(
                f"model.roles.{tau} is no matrix type{suggestion(str(tau), TAUS)}; choose from {listing(TAUS)}"
            )
        names = [endings] if isinstance(endings, str) else endings
        if not isinstance(names, list | tuple) or not names or not all(isinstance(n, str) and n for n in names):
            raise RequestError(
                f"model.roles.{tau}={endings} is no list of endings of module names; give e.g. +model.roles.{tau}=[w1]"
            )
        for name in names:
            other = next((role for role, taken in roles.items() if name in taken), None)
            if other is not None:
                raise RequestError(f"model.roles.{tau}=[{name}] and model.roles.{other}=[{name}] name the same matrix")
        roles[str(tau)] = tuple(sorted(set(names)))
    return tuple(sorted(roles.items()))
