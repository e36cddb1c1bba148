from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.errors import RequestError


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("rho=1\n2", "rho=1 2"),
        ("a\u2028b\x0bc", "a b c"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("byte \udcff", "byte \\udcff"),
        ("ρ=½ naïve 漢字", "ρ=½ naïve 漢字"),
        ("path\\with\\backslashes", "path\\with\\backslashes"),
    ],
)
def test_a_value_cannot_break_the_line_nor_steer_the_terminal(value: str, shown: str) -> None:
    assert str(RequestError(value)) == shown


@given(st.text(st.characters(exclude_categories=()), max_size=5000))
def test_every_message_is_one_line_that_can_be_printed(text: str) -> None:
    message = str(RequestError(text))
    assert message == "" or len(message.splitlines()) == 1
    assert message.isprintable()
    assert len(message) <= 2005
    message.encode()


def test_of_a_very_long_message_beginning_and_end_are_kept() -> None:
    message = str(RequestError(f"rho={'1' * 10_000} is not a fraction; give 0 to 1"))
    assert message.startswith("rho=111")
    assert message.endswith("111 is not a fraction; give 0 to 1")
    assert " ... " in message
