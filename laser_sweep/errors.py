"""The exceptions that a person reads as one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RequestError(Exception):
    """What was asked for is wrong. The message is one line: the value, what is allowed, the override that mends it."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.replace("\r", "\n").split("\n")))  # a value may have lines of its own


class StoreError(Exception):
    """Results cannot be stored any more. The message is one line."""


def listing(values: Iterable[object]) -> str:
    """The allowed values as they stand in an error message."""
    return ", ".join(str(value) for value in values)


def suggestion(value: str, allowed: Iterable[str]) -> str:
    """' (did you mean X?)' where an allowed value is spelled nearly like `value`, else nothing."""
    close = difflib.get_close_matches(value, list(allowed), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
