"""The exceptions that a person reads as one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_LONGEST = 2000  # characters of a message
_LOGIN = re.compile(r"(\w://)[^/?#\s@]+@")
_QUERY = re.compile(r"([?&#][\w.-]*(?:token|key|secret|sig|pass|auth|credential)[\w.-]*=)[^&#\s'\"]+", re.IGNORECASE)


class RequestError(Exception):
    """What was asked for is wrong. The message is one line: the value, what is allowed, the override that mends it."""

    def __init__(self, message: str) -> None:
        # A value may have lines of its own, or be a whole file.
        super().__init__(_one_line(without_credentials(message)))


def _one_line(text: str) -> str:
    """What a terminal shows on one line and is not steered by, without the middle of what is very long."""
    shown = "".join(
        character if character.isprintable() else " " if character.isspace() else repr(character)[1:-1]
        for character in text
    )
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST // 2]} ... {shown[-_LONGEST // 2 :]}"


class StoreError(Exception):
    """Results cannot be stored any more. The message is one line."""


def without_credentials(text: str) -> str:
    """Text whose addresses say nothing that opens a door: no name and password before the host, no token behind it."""
    return _QUERY.sub(r"\1***", _LOGIN.sub(r"\1***@", text))


def listing(values: Iterable[object]) -> str:
    """The allowed values as they stand in an error message."""
    return ", ".join(str(value) for value in values)


def suggestion(value: str, allowed: Iterable[str]) -> str:
    """' (did you mean X?)' where an allowed value is spelled nearly like `value`, else nothing."""
    close = difflib.get_close_matches(value, list(allowed), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
