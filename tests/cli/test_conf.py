"""Every file under conf/ composes to a request, and every key in it is read."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from laser_sweep.cli import CONF
from laser_sweep.config import Settings, read_request
from laser_sweep.engine.editing.methods import METHODS
from laser_sweep.errors import RequestError
from laser_sweep.trial import TAUS

OPTIONS = sorted(
    f"{file.parent.relative_to(CONF).as_posix()}={file.stem}"
    for file in CONF.rglob("*.yaml")
    if file.parent != CONF and file.relative_to(CONF).parts[0] not in ("hydra", "experiment")
)
AXES = {"tau", "layer", "rho"}


def composed(*overrides: str, hydra: bool = False) -> DictConfig:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=hydra)


def fields(schema: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted name and the type of every setting; of nested dataclasses their settings."""
    for name, hint in typing.get_type_hints(schema).items():
        options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        nested = [option for option in options if dataclasses.is_dataclass(option)]
        for one in nested:
            yield from fields(one, f"{prefix}{name}.")
        if not nested:
            yield f"{prefix}{name}", hint


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_there_are_options_to_test() -> None:
    assert {"model=demo", "model=llama2", "dataset=demo", "dataset=fever", "tracking=none"} <= set(OPTIONS)


def chosen(option: str) -> DictConfig:
    """The configuration with an option, and with a value for what it leaves to the person to say."""
    missing = OmegaConf.missing_keys(composed(option))
    return composed(option, *(f"{key}=some/where" for key in sorted(missing)))


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_composes_to_a_valid_request_in_which_every_key_is_read(option: str) -> None:
    config = chosen(option)
    request = read_request(config)
    group, name = option.split("=")
    file = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    for key in set(file) - {"defaults"}:  # the file took part
        part = config if group == "search" and "search" in file else config[group]  # some set the axes as well
        assert file[key] in (OmegaConf.to_container(part)[key], "???") or "${" in str(file[key])
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    settings = dict(fields(Settings))
    free = {name for name, hint in settings.items() if typing.get_origin(hint) in (dict, Mapping)}
    options = {f"intervention.options.{key}" for key in request.question.intervention.options}  # checked by name
    assert free == {"cluster.env", "intervention.options"}  # what is set in them is not ours to list
    hub = {"dataset.hub", "guard.dataset.hub"}  # a data set need not be on the hub
    readable = set(settings) | AXES | options | hub
    assert set(leaves(values)) <= readable


def test_every_setting_stands_in_some_file_of_conf() -> None:
    """A setting that no file shows can only be found by reading the source."""
    shown: set[str] = set()
    for option in OPTIONS:
        values = OmegaConf.to_container(chosen(option), resolve=True)
        assert isinstance(values, dict)
        shown |= set(leaves(values))
    assert {name for name, _ in fields(Settings)} - {"intervention.options"} <= shown


@pytest.mark.parametrize("option", OPTIONS)
def test_what_an_option_leaves_to_say_is_asked_for_by_its_key(option: str) -> None:
    for key in OmegaConf.missing_keys(composed(option)):
        with pytest.raises(RequestError, match=f"^{re.escape(key)} is missing; set it with {re.escape(key)}="):
            read_request(composed(option))


def test_every_method_has_an_intervention_of_its_name() -> None:
    assert {option for option in OPTIONS if option.startswith("intervention=")} >= {
        f"intervention={method}" for method in METHODS
    }


def test_every_file_for_hydra_is_in_use() -> None:
    choices = composed(hydra=True).hydra.runtime.choices
    for file in (CONF / "hydra").rglob("*.yaml"):
        assert choices[file.parent.relative_to(CONF).as_posix()] == file.stem


def test_hydra_itself_leaves_nothing_behind_and_uses_our_sweeper_and_launcher() -> None:
    hydra = composed(hydra=True).hydra
    assert hydra.output_subdir is None
    assert hydra.job.chdir is False
    assert {hydra.run.dir, hydra.sweep.dir} == {"."}
    assert hydra.sweeper._target_ == "hydra_plugins.laser_sweep.sweeper.LaserSweeper"
    assert hydra.launcher._target_ == "hydra_plugins.laser_sweep.launcher.LaserLauncher"


def test_defaults_are_one_trial_of_the_embedded_model() -> None:
    question = read_request(composed()).question
    assert (question.axes.tau, question.axes.layer, question.axes.rho) == (("fc_in",), ("last",), (0.01,))
    assert question.axes.tau[0] in TAUS
    assert (question.model.name, question.dataset.name, question.intervention.method) == ("demo", "demo", "laser")
    assert question.model.path.startswith("package://")


def test_no_file_of_conf_chooses_python_objects() -> None:
    assert [file.name for file in CONF.rglob("*.yaml") if "_target_" in file.read_text()] == []
