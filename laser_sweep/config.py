"""The composed configuration as typed values, checked with messages that a person can act on.

Each config group has its dataclass beside the code that reads it; this module puts them together.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.models.spec import ModelSpec, read_roles
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError, listing, suggestion
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.jobs import EvaluationSpec, Question
from laser_sweep.sweep.search.grid import Axes, Intervention, LayerName, check_options, check_taus
from laser_sweep.sweep.tracking.tracker import TrackingSpec

_LAYER_NAMES: tuple[Literal["last", "each", "all"], ...] = ("last", "each", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSpec:
    """What the `store` config group says."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The whole configuration but for the axes τ, ℓ, ρ."""

    model: ModelSpec
    dataset: DatasetSpec
    intervention: Intervention
    evaluation: EvaluationSpec
    cluster: ClusterSpec
    cache: CacheSpec
    tracking: TrackingSpec
    store: StoreSpec
    seed: int
    sweep: str | None
    resume: Literal["auto", "never", "errored"]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Request:
    """One composed configuration: how to run, and what is asked."""

    settings: Settings
    question: Question


def read_request(config: DictConfig) -> Request:
    """Checks a composed configuration. Raises RequestError for the first value that is wrong."""
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise RequestError(f"{error.full_key} is missing; set it with {error.full_key}=<value>") from None
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise RequestError(f"{key}{_one_line(error)}") from None
    if not isinstance(values, dict):
        raise RequestError("the configuration is not a mapping")
    plain: dict[str, Any] = {str(key): value for key, value in values.items()}
    for group in ("model", "dataset"):
        _name_after_path(plain.get(group))
    config_json = json.dumps(_without_secrets(plain), sort_keys=True)
    axes = Axes(
        tau=tuple(str(value) for value in _as_list("tau", plain.pop("tau", None))),
        layer=tuple(_layer(value) for value in _as_list("layer", plain.pop("layer", None))),
        rho=tuple(_rho(value) for value in _as_list("rho", plain.pop("rho", None))),
    )
    check_taus(axes)
    _check_keys(plain, Settings, "")
    if isinstance(plain.get("model"), dict) and "roles" in plain["model"]:
        plain["model"]["roles"] = read_roles(plain["model"]["roles"])
    try:
        settings = TypeAdapter(Settings).validate_python(plain)
    except ValidationError as error:
        raise RequestError(_describe(error)) from None
    _check_ranges(settings)
    check_options(settings.intervention)
    return Request(
        settings,
        Question(
            sweep=settings.sweep or f"{settings.model.name}-{settings.dataset.name}",
            model=settings.model,
            dataset=settings.dataset,
            intervention=settings.intervention,
            axes=axes,
            evaluation=settings.evaluation,
            seed=settings.seed,
            config_json=config_json,
        ),
    )


def shared_settings(requests: Sequence[Request]) -> Settings:
    """The settings of a sweep of several configurations. Raises RequestError where they cannot differ but do."""
    first = requests[0].settings
    for name in ("store", "cluster", "cache", "tracking", "resume", "dry_run"):
        values = {str(getattr(request.settings, name)): getattr(request.settings, name) for request in requests}
        if len(values) > 1:
            raise RequestError(f"{name} is one for the whole sweep and cannot be swept; it is {' and '.join(values)}")
    return first


def _without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it may be stored: variables for the workers' environment may be keys and tokens."""
    cluster = {key: value for key, value in (values.get("cluster") or {}).items() if key != "env"}
    return {**values, "cluster": cluster}


def _name_after_path(group: Any) -> None:
    """A model or data set without a name is called like its file, directory or repository."""
    if isinstance(group, dict) and group.get("name") is None and isinstance(group.get("path"), str):
        path = Path(group["path"]).absolute()
        group["name"] = path.stem if "format" in group else path.name


def _as_list(axis: str, value: Any) -> Sequence[Any]:
    values = value if isinstance(value, list) else [value]
    if not values or value is None:
        raise RequestError(f"{axis}= is empty; give a value or a list, e.g. {axis}={_EXAMPLES[axis]}")
    return values


_EXAMPLES = {"tau": "[fc_in,fc_out]", "layer": "[0,-1]", "rho": "[0.01,0.1]"}


def _layer(value: Any) -> LayerName:
    for name in _LAYER_NAMES:
        if value == name:
            return name
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise RequestError(
        f"layer={value} is not a layer; give whole numbers (0 is the first, -1 the last), last, each or all"
    )


def _rho(value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:  # also where it is not a number: nan compares false
        raise RequestError(
            f"rho={value} is not a fraction of the rank; give numbers from 0 (zero matrix) to 1 (untouched)"
        )
    return float(value)


def _check_keys(values: Mapping[str, Any], schema: type, prefix: str) -> None:
    """Raises RequestError for a key that nothing reads, at any depth."""
    hints = typing.get_type_hints(schema)
    known = hints if prefix else ("tau", "layer", "rho", *hints)
    for key, value in values.items():
        if key not in hints:
            raise RequestError(f"{prefix}{key} is not a setting{suggestion(key, known)}; there are {listing(known)}")
        if isinstance(value, bool) and hints[key] is not bool:
            raise RequestError(f"{prefix}{key}={str(value).lower()}: true and false are no values of this setting")
        nested = _dataclass_of(hints[key])
        if nested is not None and isinstance(value, dict):
            _check_keys(value, nested, f"{prefix}{key}.")


def setting_names(schema: type = Settings, prefix: str = "") -> list[str]:
    """Every key and group that can be set, dotted."""
    names = [] if prefix else ["tau", "layer", "rho"]
    for key, hint in typing.get_type_hints(schema).items():
        nested = _dataclass_of(hint)
        names += [f"{prefix}{key}", *([] if nested is None else setting_names(nested, f"{prefix}{key}."))]
    return names


def _dataclass_of(hint: Any) -> type | None:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return next((o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)), None)


_TYPE_NAMES = ("int", "float", "str", "bool", "none", "HubSource")


def _describe(error: ValidationError) -> str:
    """One line on the first thing that is wrong."""
    first = error.errors()[0]
    keys: list[str] = []
    for part in first["loc"]:
        # Members of a union and places in a list follow the key that a person can set.
        if isinstance(part, int) or (keys and (part in _TYPE_NAMES or "[" in part)):
            break
        keys.append(str(part))
    same = [other for other in error.errors() if other["loc"][: len(keys)] == first["loc"][: len(keys)]]
    reasons = " or ".join(dict.fromkeys(other["msg"].removeprefix("Input ") for other in same))
    if first["type"] == "missing":
        return f"{'.'.join(keys)} is missing; set it with {'.'.join(keys)}=<value>"
    return f"{'.'.join(keys)}={first['input']}: {reasons}"


def _check_ranges(settings: Settings) -> None:
    if not settings.store.path.strip():
        raise RequestError("store.path= is empty; give a directory")
    positive = {
        "evaluation.limit": settings.evaluation.limit,
        "evaluation.test_limit": settings.evaluation.test_limit,
        "evaluation.batch_tokens": settings.evaluation.batch_tokens,
        "cluster.workers": None if settings.cluster.workers == "auto" else settings.cluster.workers,
        "cluster.cpus_per_worker": settings.cluster.cpus_per_worker,
        "cluster.max_attempts": settings.cluster.max_attempts,
    }
    for key, value in positive.items():
        if value is not None and value < 1:
            raise RequestError(f"{key}={value} is too small; it is a count of 1 or more")
    sizes = {
        "evaluation.activation_budget_gb": settings.evaluation.activation_budget_gb,
        "evaluation.host_budget_gb": settings.evaluation.host_budget_gb,
        "cache.factors_gb": settings.cache.factors_gb,
    }
    for key, size in sizes.items():
        if not 0 <= size < math.inf:
            raise RequestError(f"{key}={size} is no amount of memory; give gigabytes, 0 or more")
    gpus = settings.cluster.gpus_per_worker
    if gpus != "auto" and not (0 <= gpus <= 1 or (math.isfinite(gpus) and gpus == int(gpus) > 0)):
        raise RequestError(f"cluster.gpus_per_worker={gpus} cannot be had; give a fraction below 1 or a whole number")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
