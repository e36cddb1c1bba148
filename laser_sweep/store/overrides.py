"""The command line that asks for a stored configuration again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from laser_sweep.store.stored import leaves

_PACKAGE = Path(__file__).resolve().parents[1]
_CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())  # as in laser_sweep.cli
_GROUPS = ("model", "dataset", "intervention", "evaluation", "search", "guard", "cluster", "tracking")
_AXES = ("tau", "layer", "rho")
_FREE = ("model.roles.", "intervention.options.")  # mappings whose keys are the user's
_OF_A_RUN = ("store", "resume", "dry_run")  # said anew
_PLAIN = re.compile(r"[A-Za-z_/][\w/.:@%+-]*", re.ASCII)
_WORDS = ("true", "false", "null", "nan", "inf")  # read as other things than text

_Values = Mapping[str, Any]


def rerun_command(config: _Values, store: str, **settings: str) -> str:
    """A line for a shell that runs a stored configuration into `store`, with `settings` such as resume="errored".

    It names files of conf/ and what the configuration says beyond them. The environment of workers is not stored, and
    so is not part of it.
    """
    said = {"store.path": store, **settings}
    words = [*overrides(config), *(f"{key}={hydra_value(value)}" for key, value in said.items())]
    return shlex.join(["python", "-m", "laser_sweep", "-m", *words])


def overrides(config: _Values) -> list[str]:
    """What has to be said on Hydra's command line for a composed configuration to come out again."""
    defaults = _yaml(_CONF / "config.yaml")
    chosen: dict[str, Any] = {}
    for entry in defaults.pop("defaults"):
        chosen |= entry if isinstance(entry, dict) else {}
    words = []
    for group in _GROUPS:
        stored = config.get(group)
        if isinstance(stored, Mapping):
            option = _nearest(group, stored, config, chosen[group])
            words += [] if option == chosen[group] else [f"{group}={option}"]
            words += _differences(group, _option(group, option), stored, config)
    words += [f"{axis}={hydra_value(config[axis])}" for axis in _AXES if axis in config]
    for key in config:
        if key not in (*_GROUPS, *_AXES, *_OF_A_RUN):
            words += _differences("", {key: defaults.get(key)}, {key: config[key]}, config)
    return words


def hydra_value(value: object) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(hydra_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{hydra_value(key)}:{hydra_value(one)}' for key, one in value.items())}}}"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    # A backslash is one, but before a quote two of them are.
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def _nearest(group: str, stored: _Values, config: _Values, default: str | None) -> str:
    """The file of a group that leaves the least to say; of equals the one that is called like the values."""

    def cost(option: str) -> tuple[int, bool, bool, str]:
        base = _option(group, option)
        missing = len(leaves(base).keys() - leaves(stored).keys())
        said = missing + len(_differences(group, base, stored, config))
        return said, option != stored.get("name"), option != default, option

    return min((file.stem for file in (_CONF / group).glob("*.yaml")), key=cost)


def _differences(group: str, base: _Values, stored: _Values, config: _Values) -> list[str]:
    """Overrides that make `stored` of `base`; a `+` stands before keys that it does not have."""
    prefix = f"{group}." if group else ""
    before, after = leaves(base, prefix), leaves(stored, prefix)
    gone = [key for key in before if key not in after and key.startswith(_FREE)]
    return [
        *(f"{'' if key in before else '+'}{key}={hydra_value(value)}" for key, value in after.items()
          if key not in before or _resolved(before[key], config) != value),
        *(f"~{key}" for key in gone),
    ]  # fmt: skip


def _resolved(value: object, config: _Values) -> object:
    """`${seed}` is what the configuration says; other values are themselves."""
    reference = re.fullmatch(r"\$\{(\w+)\}", value) if isinstance(value, str) else None
    return config.get(reference[1]) if reference else value


@cache
def _option(group: str, option: str) -> dict[str, Any]:
    """A file of a group, with the files that it starts from."""
    values = _yaml(_CONF / group / f"{option}.yaml")
    merged: dict[str, Any] = {}
    for entry in values.pop("defaults", []):
        merged |= _start(group, entry)
    merged |= values.get(group, values)  # a search's file sets axes beside its own values
    return merged


def _start(group: str, entry: object) -> dict[str, Any]:
    """`local` is a file of the same group; `/dataset@dataset: demo` one of another group under a key."""
    if isinstance(entry, str):
        return {} if entry == "_self_" else _option(group, entry)
    found: dict[str, Any] = {}
    for place, option in entry.items() if isinstance(entry, Mapping) else ():
        other, _, key = str(place).removeprefix("/").partition("@")
        found[key or other] = _option(other, str(option))
    return found


def _yaml(file: Path) -> dict[str, Any]:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    return values if isinstance(values, dict) else {}
