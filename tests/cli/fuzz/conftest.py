"""Runs a command line in a directory of its own, checks what every outcome has to be, and counts."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Forks
from .overrides import ANSWERING, INFO

SECONDS = 2.0  # of the processor
LONGEST = 2100  # characters of a message
_PLAN = re.compile(r"^trials ([\d,]+) \(the untouched model included\): reused 0, failed before 0, to run \1$", re.M)


@dataclass
class Tally:
    """What became of the cases, and which took longest."""

    ended: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, tuple[float, str]] = field(default_factory=dict)

    def add(self, what: str, seconds: float, line: str) -> None:
        self.ended[what] += 1
        self.slowest[what] = max(self.slowest.get(what, (0.0, "")), (seconds, line))


TALLY = Tally()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not TALLY.ended:
        return
    counts = ", ".join(f"{count:,} {what}" for what, count in sorted(TALLY.ended.items()))
    terminalreporter.write_line(f"fuzz: {sum(TALLY.ended.values()):,} cases: {counts}")
    for what, (seconds, line) in sorted(TALLY.slowest.items()):
        terminalreporter.write_line(f"fuzz: slowest {what}: {seconds:.2f} s of the processor: {line[:200]}")


class Fuzz:
    """Each case in an empty directory that holds `files` and nothing else afterwards."""

    def __init__(self, forks: Forks, root: Path, home: Path) -> None:
        self._forks = forks
        self._root = root
        self._home = home
        self._numbers = itertools.count()

    def __call__(self, arguments: Sequence[str], files: dict[str, bytes] | None = None) -> dict[str, Any]:
        """The outcome, which is a plan, an answer to a flag that asks, or a refusal in one line."""
        outcome = self._run(arguments, files or {})
        line = shlex.join(arguments)
        what = "planned"
        if outcome["code"] == 2:
            what = "refused"
            if INFO & {argument.partition("=")[0] for argument in arguments}:  # of which Hydra has said a part already
                outcome = {**outcome, "out": "", "err": outcome["err"][outcome["err"].rfind("laser_sweep: ") :]}
            check_refusal(outcome)
        elif ANSWERING & {argument.partition("=")[0] for argument in arguments}:
            what = "answered"
            assert outcome["code"] == 0, outcome  # Hydra says what --info asks for on standard error
        else:
            assert (outcome["code"], outcome["err"]) == (0, ""), outcome
            assert _PLAN.search(outcome["out"]), outcome
        if outcome["seconds"] >= SECONDS and what == "refused":  # once more: the machine may have been busy
            outcome["seconds"] = min(outcome["seconds"], self._run(arguments, files or {})["seconds"])
            assert outcome["seconds"] < SECONDS, outcome
        TALLY.add(what, outcome["seconds"], line)
        return outcome

    def _run(self, arguments: Sequence[str], files: dict[str, bytes]) -> dict[str, Any]:
        directory = self._root / str(next(self._numbers))
        for name, content in files.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        directory.mkdir(exist_ok=True)
        outcome = self._forks.run(list(arguments), directory)
        found = {
            str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if not path.is_dir()
        }
        assert found == files, {name for name in {*found, *files} if found.get(name) != files.get(name)}
        assert written_outside_caches(self._home) == []
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        return outcome


def check_refusal(outcome: dict[str, Any]) -> None:
    """Exit code 2 and one line, all of it to be read on a terminal."""
    message = outcome["err"]
    assert (outcome["code"], outcome["out"]) == (2, ""), outcome
    assert message.startswith(("laser_sweep: ", "package '")), outcome  # Hydra's own word where --package is wrong
    assert message.endswith("\n"), outcome
    assert len(message.splitlines()) == 1, outcome
    assert message[:-1].isprintable(), outcome
    assert len(message) <= LONGEST, outcome


def written_outside_caches(home: Path) -> list[str]:
    return [name for name in os.listdir(home) if name != ".cache"]


@pytest.fixture(scope="session")
def fuzz(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    home = tmp_path_factory.mktemp("home")
    server = Forks({**environment, "HOME": str(home), "TOKENIZERS_PARALLELISM": "false"}, "--plan")
    yield Fuzz(server, tmp_path_factory.mktemp("cases"), home)
    server.close()
