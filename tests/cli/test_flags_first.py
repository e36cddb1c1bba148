"""The order of the command line: flags may stand anywhere among the overrides."""

from __future__ import annotations

import argparse

import pytest
from hydra._internal.utils import get_args_parser
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.cli import flags_first

OVERRIDES = st.lists(
    st.sampled_from(
        ["model=llama2", "rho=0.01,0.05", "layer=-1", "~tracking", "+a.b=-m", "tau=[fc_in,fc_out]", "store.path=a b=c"]
    ),
    max_size=6,
)
# A flag with its value, the name under which argparse keeps it, and what it keeps. Some values look like overrides.
FLAGS = st.lists(
    st.sampled_from(
        [
            (["-m"], "multirun", True),
            (["--multirun"], "multirun", True),
            (["--cfg", "job"], "cfg", "job"),
            (["-c", "all"], "cfg", "all"),
            (["--cfg=hydra"], "cfg", "hydra"),
            (["--resolve"], "resolve", True),
            (["-p", "model"], "package", "model"),
            (["--package", "model=x"], "package", "model=x"),
            (["--config-name", "rho=0.1"], "config_name", "rho=0.1"),
            (["-cn", "other"], "config_name", "other"),
            (["--config-dir", "/data/run=3/conf"], "config_dir", "/data/run=3/conf"),
            (["-cd", "~conf"], "config_dir", "~conf"),
            (["--config-path", "a=b"], "config_path", "a=b"),
            (["-cp", "conf"], "config_path", "conf"),
            (["-sc"], "shell_completion", True),
            (["--info", "defaults-tree"], "info", "defaults-tree"),
            (["-i", "plugins"], "info", "plugins"),
            (["--help"], "help", True),
        ]
    ),
    max_size=4,
    unique_by=lambda flag: flag[1],
)


@st.composite
def lines(draw: st.DrawFn) -> tuple[list[str], list[str], dict[str, object]]:
    """A command line with flags anywhere among its overrides; the overrides in order; what argparse should find."""
    overrides = draw(OVERRIDES)
    flags = draw(FLAGS)
    places = sorted(draw(st.lists(st.integers(0, len(overrides)), min_size=len(flags), max_size=len(flags))))
    line: list[str] = []
    for place in range(len(overrides) + 1):
        line += [part for flag, at in zip(flags, places, strict=True) if at == place for part in flag[0]]
        line += overrides[place : place + 1]
    return line, overrides, {name: value for _, name, value in flags}


@given(lines())
def test_every_line_parses_with_hydras_own_parser_and_means_the_same(
    line: tuple[list[str], list[str], dict[str, object]],
) -> None:
    arguments, overrides, flags = line
    ordered = flags_first(arguments)
    assert sorted(ordered) == sorted(arguments)
    assert ordered[len(ordered) - len(overrides) :] == overrides
    parsed = vars(get_args_parser().parse_args(ordered))
    assert parsed.pop("overrides") == overrides
    assert {name: value for name, value in parsed.items() if value not in (None, False)} == flags


def test_the_advertised_line_needs_the_reordering() -> None:
    advertised = ["model=llama2", "dataset=fever", "-m", "rho=0.01,0.05,0.2"]
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        get_args_parser().parse_args(advertised)
    assert flags_first(advertised) == ["-m", "model=llama2", "dataset=fever", "rho=0.01,0.05,0.2"]


@given(OVERRIDES)
def test_a_line_without_flags_is_left_as_it_is(overrides: list[str]) -> None:
    assert flags_first(overrides) == overrides


def test_info_after_the_overrides_asks_for_all_of_it() -> None:
    parsed = get_args_parser().parse_args(flags_first(["rho=0.1", "--info"]))
    assert parsed.info == "all"
    assert parsed.overrides == ["rho=0.1"]


def test_a_word_that_is_no_override_is_reported_by_hydra_wherever_it_stands() -> None:
    """argparse would refuse the overrides that follow it, and not say what is wrong."""
    assert get_args_parser().parse_args(flags_first(["rho", "-m", "tau=fc_in"])).overrides == ["rho", "tau=fc_in"]
