"""The composed configuration as typed values, checked with messages that a person can act on.

Each config group has its dataclass beside the code that reads it; this module puts them together.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.models.spec import ModelSpec, read_roles
from laser_sweep.engine.tasks.registry import measures_of
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError, listing, suggestion, without_credentials
from laser_sweep.measures import EPISODES, Objective
from laser_sweep.sweep.executors.spec import ClusterSpec
from laser_sweep.sweep.jobs import EvaluationSpec, GuardSpec, Question
from laser_sweep.sweep.measure import OnError
from laser_sweep.sweep.search.registry import check_search
from laser_sweep.sweep.search.space import Axes, Intervention, LayerName, Space, check_options, check_taus
from laser_sweep.sweep.search.spec import SPECS, HalvingSpec, RacingSpec, SearchSpec
from laser_sweep.sweep.tracking.tracker import TrackingSpec

T = TypeVar("T")
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
    search: SearchSpec
    objective: Objective | Literal["auto"]
    cluster: ClusterSpec
    cache: CacheSpec
    tracking: TrackingSpec
    store: StoreSpec
    seed: int
    sweep: str | None
    resume: Literal["auto", "never", "errored"]
    dry_run: bool
    guard: GuardSpec | None = None
    on_error: OnError = "continue"


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
    return read_values({str(key): value for key, value in values.items()})


def read_values(values: Mapping[str, Any]) -> Request:
    """Checks a configuration with all its values, as the `config_json` of a store. Raises as `read_request`."""
    plain = copy.deepcopy(dict(values))
    guard = plain.get("guard")
    for group in (plain.get("model"), plain.get("dataset"), guard.get("dataset") if isinstance(guard, dict) else None):
        _name_after_path(group)
    # `default` serves values that are refused below, such as the bytes that YAML knows.
    config_json = json.dumps(_without_secrets(plain), sort_keys=True, default=str)
    axes = Axes(
        tau=tuple(str(value) for value in _as_list("tau", plain.pop("tau", None))),
        layer=tuple(_layer(value) for value in _as_list("layer", plain.pop("layer", None))),
        rho=tuple(_rho(value) for value in _as_list("rho", plain.pop("rho", None))),
    )
    check_taus(axes)
    _check_keys(plain, Settings, "")
    if isinstance(plain.get("model"), dict) and "roles" in plain["model"]:
        plain["model"]["roles"] = read_roles(plain["model"]["roles"])
    if "search" not in plain:
        raise RequestError("search is missing; choose one with search=grid")
    plain["search"] = _validated(SPECS[plain["search"]["name"]], plain["search"], "search")
    settings = _validated(Settings, plain)
    _check_ranges(settings)
    check_options(settings.intervention)
    space = Space(intervention=settings.intervention, places=(), rhos=axes.rho)
    objective = _objective(settings)
    check_search(settings.search, [space], objective)
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
            search=settings.search,
            objective=objective,
            guard=settings.guard,
        ),
    )


def shared_settings(requests: Sequence[Request]) -> Settings:
    """The settings of a sweep of several configurations. Raises RequestError where they cannot differ but do."""
    first = requests[0].settings
    for name in ("store", "cluster", "cache", "tracking", "resume", "on_error", "dry_run"):
        values = {str(getattr(request.settings, name)): getattr(request.settings, name) for request in requests}
        if len(values) > 1:
            raise RequestError(f"{name} is one for the whole sweep and cannot be swept; it is {' and '.join(values)}")
    return first


def _without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it may be stored: variables for the workers' environment may be keys and tokens."""
    cluster = values.get("cluster")
    shown = {key: value for key, value in cluster.items() if key != "env"} if isinstance(cluster, dict) else cluster
    return {str(key): _shown(value) for key, value in {**values, "cluster": shown}.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _shown(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_shown(one) for one in value]
    return without_credentials(value) if isinstance(value, str) else value


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
            raise RequestError(
                f"{prefix}{key} is not a setting{suggestion(str(key), known)}; there are {listing(known)}"
            )
        if isinstance(value, bool) and hints[key] is not bool:
            raise RequestError(f"{prefix}{key}={str(value).lower()}: true and false are no values of this setting")
        if isinstance(value, str) and "\0" in value:
            raise RequestError(f"{prefix}{key}={value} holds the character 0, which no name or path does")
        nested = _dataclass_of(hints[key])
        if key == "search":
            name = value.get("name") if isinstance(value, dict) else value
            nested = SPECS.get(str(name))
            if nested is None or not isinstance(value, dict):
                raise RequestError(f"search.name={name} does not exist; choose one of {listing(SPECS)}")
        if nested is not None and isinstance(value, dict):
            _check_keys(value, nested, f"{prefix}{key}.")


def setting_names(schema: type = Settings, prefix: str = "") -> list[str]:
    """Every key and group that can be set, dotted."""
    names = [] if prefix else ["tau", "layer", "rho"]
    for key, hint in typing.get_type_hints(schema).items():
        names.append(f"{prefix}{key}")
        for nested in _dataclasses_of(hint):
            names += [name for name in setting_names(nested, f"{prefix}{key}.") if name not in names]
    return names


def _dataclass_of(hint: Any) -> type | None:
    return next(iter(_dataclasses_of(hint)), None)


def _dataclasses_of(hint: Any) -> list[type]:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return [option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)]


_TYPE_NAMES = ("int", "float", "str", "bool", "none", "HubSource")


def _validated(schema: type[T], values: Any, *group: str) -> T:
    """Values of a group as its dataclass. Raises RequestError for the first that does not fit."""
    try:
        return TypeAdapter(schema).validate_python(values)
    except ValidationError as error:
        raise RequestError(_describe(error, group)) from None


def _describe(error: ValidationError, group: Sequence[str]) -> str:
    """One line on the first thing that is wrong in a group, or in the whole."""
    first = error.errors()[0]
    keys = list(group)
    for part in first["loc"]:
        # Members of a union and places in a list follow the key that a person can set.
        if isinstance(part, int) or (keys and (part in _TYPE_NAMES or "[" in part)):
            break
        keys.append(str(part))
    depth = len(keys) - len(group)
    same = [other for other in error.errors() if other["loc"][:depth] == first["loc"][:depth]]
    reasons = " or ".join(dict.fromkeys(other["msg"].removeprefix("Input ") for other in same))
    if first["type"] == "missing":
        return f"{'.'.join(keys)} is missing; set it with {'.'.join(keys)}=<value>"
    return f"{'.'.join(keys)}={first['input']}: {reasons}"


def _objective(settings: Settings) -> Objective:
    """The score of the data set's kind where the configuration leaves it open.

    Raises RequestError for a measure that trials on the data set do not have, and for a search that needs one.
    """
    measures, name = measures_of(settings.dataset), settings.dataset.name
    if measures is EPISODES and settings.search.name in _OF_ANSWERS:
        others = listing(search for search in SPECS if search not in _OF_ANSWERS)
        raise RequestError(
            f"search={settings.search.name} goes by answers to prompts, but dataset={name} plays episodes; "
            f"give one of {others}"
        )
    if settings.objective == "auto":
        return measures.score.objective
    if settings.objective.removeprefix("mean_") not in measures.objectives:
        what = "plays episodes" if measures is EPISODES else "asks prompts"
        raise RequestError(
            f"objective={settings.objective} is not measured on dataset={name}, which {what}; "
            f"give objective={' or '.join(measures.objectives)}"
        )
    return settings.objective


_OF_ANSWERS = ("gradient", "racing")
"""Searches by the gradient of the log-loss, and by bounds of right, wrong and log-loss."""


def _check_ranges(settings: Settings) -> None:
    if not settings.store.path.strip():
        raise RequestError("store.path= is empty; give a directory")
    positive = {
        "evaluation.limit": settings.evaluation.limit,
        "evaluation.test_limit": settings.evaluation.test_limit,
        "dataset.episodes": settings.dataset.episodes,
        "dataset.max_steps": settings.dataset.max_steps,
        "dataset.context": settings.dataset.context,
        "evaluation.batch_tokens": settings.evaluation.batch_tokens,
        "cluster.workers": None if settings.cluster.workers == "auto" else settings.cluster.workers,
        "cluster.cpus_per_worker": settings.cluster.cpus_per_worker,
        "cluster.max_attempts": settings.cluster.max_attempts,
        "guard.limit": None if settings.guard is None else settings.guard.limit,
        **{
            f"search.{field.name}": value
            for field in dataclasses.fields(settings.search)
            if isinstance(value := getattr(settings.search, field.name), int)
        },
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
    if isinstance(settings.search, HalvingSpec) and settings.search.reduction < 2:
        raise RequestError(f"search.reduction={settings.search.reduction} drops no candidate; give 2 or more")
    if isinstance(settings.search, RacingSpec) and not 0 < settings.search.error < 1:
        raise RequestError(f"search.error={settings.search.error} is no chance; give a number between 0 and 1")
    if settings.guard is not None and not settings.guard.bound >= 0:
        loss = measures_of(settings.guard.dataset).loss
        of = loss.unit.strip() or f"an {loss.name}"
        raise RequestError(f"guard.bound={settings.guard.bound} refuses the untouched model; give {of}, 0 or more")
    timeout = settings.cluster.trial_timeout_s
    if timeout is not None and not 0 < timeout < math.inf:
        raise RequestError(f"cluster.trial_timeout_s={timeout} is no time; give seconds, or null for no limit")
    gpus = settings.cluster.gpus_per_worker
    if gpus != "auto" and not (0 <= gpus <= 1 or (math.isfinite(gpus) and gpus == int(gpus) > 0)):
        raise RequestError(f"cluster.gpus_per_worker={gpus} cannot be had; give a fraction below 1 or a whole number")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
