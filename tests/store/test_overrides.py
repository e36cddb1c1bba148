"""A stored configuration becomes a command line, which composes to the same configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.cli import CONF
from laser_sweep.config import read_request
from laser_sweep.store.overrides import hydra_value, overrides, rerun_command


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        yield


def stored(*line: str) -> dict[str, Any]:
    """The configuration of a command line, as it is stored with its results."""
    config: dict[str, Any] = json.loads(read_request(compose("config", overrides=list(line))).question.config_json)
    return config


def options(group: str) -> list[str]:
    files = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    return [f"{group}={name}" for name in files if name not in ("auto", "jsonl", "lm_eval")]


GROUPS = ("experiment", "model", "dataset", "intervention", "search", "guard", "tracking", "evaluation")


@pytest.mark.parametrize("line", [*(option for group in GROUPS for option in options(group)), "cluster=auto"])
def test_every_file_of_conf_is_asked_for_again(line: str) -> None:
    config = stored(line)
    assert stored(*overrides(config)) == config


@pytest.mark.parametrize(
    "line",
    [
        ["dataset=jsonl", "dataset.path='a b,c.jsonl'", "dataset.choices=[yes,'no','1']"],
        ["dataset=lm_eval", "dataset.task=arc_easy"],
        ["dataset=jsonl", "dataset.path=x.csv", "guard=jsonl", "guard.dataset.path=y.csv", "guard.bound=0.1"],
        ["model=auto", "model.path='it\\'s'", "+model.roles.fc_in=[w1,w2]", "model.device_map=balanced"],
        ["intervention=clustered", "intervention.options.clusters=4", "seed=3"],
        ["intervention=randomized", "seed=3", "rho=[1e-5,0.5]", "intervention.options.seed=7"],
        ["sweep='my, sweep = 1'", "layer=[0,-1]", "tau=[attn,q_proj]", "objective=log_loss"],
        ["sweep='null'", "cache.dir=/tmp/x", "cache.factors_gb=1.5", "evaluation.limit=7"],
        ["sweep='C:\\\\dir\\\\'", "search=halving", "search.reduction=2", "rho=0.5", "layer=all"],
        ["cluster.workers=3", "cluster.address='ray://host:10001'", "tracking.granularity=trial"],
    ],
)
def test_what_was_changed_on_the_line_is_said_again(line: list[str]) -> None:
    config = stored(*line)
    assert stored(*overrides(config)) == config


def test_the_line_says_no_more_than_it_has_to() -> None:
    assert overrides(stored()) == ["tau=fc_in", "layer=last", "rho=0.01"]
    said = overrides(stored("model=llama2", "dataset=fever", "search=halving", "search.reduction=2", "tau=mlp"))
    assert said == [
        "model=llama2", "dataset=fever", "search=halving", "search.reduction=2",
        "tau=mlp", "layer=each", "rho=[0.9,0.8,0.6,0.4,0.2,0.1,0.05,0.01,0.005]",
    ]  # fmt: skip


def test_a_shell_hands_the_words_on_as_they_are() -> None:
    config = stored("sweep='a b'", "rho=[0.1,0.2]")
    words = shlex.split(rerun_command(config, "a store's", resume="errored"))
    assert words[:4] == ["python", "-m", "laser_sweep", "-m"]
    again = compose("config", overrides=words[4:])
    assert (again.store.path, again.resume, again.sweep, list(again.rho)) == ("a store's", "errored", "a b", [0.1, 0.2])


def test_a_configuration_of_an_earlier_version_says_what_it_has() -> None:
    """Keys that it does not have are those of today; keys that are gone are said, and refused where they matter."""
    config = stored("model=llama2")
    del config["objective"], config["cache"], config["model"]["device_map"]
    assert overrides(config) == ["model=llama2", "tau=fc_in", "layer=last", "rho=0.01"]
    assert "+evaluation.gone=1" in overrides({**config, "evaluation": {**config["evaluation"], "gone": 1}})


# ${ starts an interpolation in any text, and Hydra's grammar has no way to write a line break.
texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF)).filter(lambda text: "${" not in text)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts


@given(scalars | st.lists(scalars, max_size=4))
def test_hydra_reads_a_value_as_what_it_was(value: object) -> None:
    parser = OverridesParser.create()
    [parsed] = parser.parse_overrides([f"key={hydra_value(value)}"])
    read = parsed.value()
    assert plain(read) == value
    assert not parsed.is_sweep_override()


def plain(value: Any) -> Any:
    """Text with its quotes is an object of Hydra's."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    return getattr(value, "text", value)
