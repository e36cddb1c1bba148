"""Whatever is typed, and whatever stands in the files: a plan, or exit code 2 and one line; nothing is written.

FUZZ_CASES says how many cases there are altogether; `make fuzz` runs 5,000 of them.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conf_files import conf_cases
from .conftest import Fuzz
from .data_files import data_cases
from .model_directories import model_cases
from .overrides import GOOD, QUICK, SWEPT, WRONG, lines

CASES = int(os.environ.get("FUZZ_CASES", "100"))
WRONG_VALUES = [f"{key}={value}" for key, values in WRONG.items() for value in values]


def share(percent: int) -> settings:
    return settings(
        max_examples=CASES * percent // 100,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


@share(40)
@given(lines())
def test_any_command_line_is_planned_or_refused(fuzz: Fuzz, line: list[str]) -> None:
    fuzz(line)


@share(10)
@given(st.sampled_from(WRONG_VALUES), st.lists(GOOD, max_size=2), st.booleans())
def test_a_wrong_value_among_right_ones_is_refused_and_its_key_is_named(
    fuzz: Fuzz, wrong: str, right: list[str], sweep: bool
) -> None:
    key = wrong.partition("=")[0]
    others = [word for word in right if not word.startswith((f"{key}=", f"{key.partition('.')[0]}="))]
    outcome = fuzz([*(["-m"] if sweep else []), *QUICK, *others, "dry_run=true", wrong])
    assert outcome["code"] == 2
    assert key in outcome["err"], outcome["err"]


@share(5)
@given(st.lists(st.one_of(GOOD, SWEPT).filter(lambda word: not word.startswith(("search=", "intervention=")))))
def test_right_values_are_planned(fuzz: Fuzz, right: list[str]) -> None:
    assert fuzz(["-m", *QUICK, *right, "dry_run=true"])["code"] == 0


@share(20)
@given(conf_cases())
def test_any_configuration_of_the_user_is_planned_or_refused(
    fuzz: Fuzz, case: tuple[list[str], dict[str, bytes]]
) -> None:
    fuzz(*case)


@share(15)
@given(data_cases())
def test_any_file_of_rows_is_planned_or_refused(fuzz: Fuzz, case: tuple[list[str], dict[str, bytes]]) -> None:
    fuzz(*case)


@share(10)
@given(model_cases())
def test_any_model_directory_is_planned_or_refused(fuzz: Fuzz, case: tuple[list[str], dict[str, bytes]]) -> None:
    fuzz(*case)
