"""Ways to run the command: in this process, in one of its own, or each line in a fork of a process without torch."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FORKS = Path(__file__).parent / "forks.py"


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of a machine without network and without a hub cache; one thread, no tracker."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "HF_", "HYDRA"))},
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path_factory.mktemp("hub")),
        "WANDB_MODE": "disabled",
    }


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs `python -m laser_sweep` in a process of its own, in an empty directory."""

    def run(
        *arguments: str, cwd: Path = tmp_path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "laser_sweep", *arguments],
            cwd=cwd,
            env={**environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=280,
        )

    return run


@pytest.fixture
def laser(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs the command in this process, where torch need not be imported again, in an empty directory."""
    from laser_sweep.cli import main

    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["laser_sweep", *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        GlobalHydra.instance().clear()
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(list(arguments), code, out, err)

    yield run
    GlobalHydra.instance().clear()
    root.handlers[:] = handlers  # Hydra's logging configuration replaces them
    root.setLevel(level)


class Forks:
    """A process that runs command lines, each in a fork of itself (see forks.py)."""

    def __init__(self, env: dict[str, str], *flags: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(FORKS), *flags], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments: list[str], directory: Path) -> dict[str, Any]:
        """What the command did in a directory that exists; its siblings get what was printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"arguments": arguments, "directory": str(directory)}), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


@pytest.fixture(scope="session")
def forks(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, dict]]:
    """Runs command lines, each in a fork of one process that has imported neither torch nor Ray (see forks.py)."""

    def run(lines: dict[str, list[str]], env: dict[str, str] | None = None) -> dict[str, dict]:
        work = tmp_path_factory.mktemp("forks")
        server = Forks({**environment, **(env or {})})
        outcomes = {}
        for number, (name, arguments) in enumerate(lines.items()):
            directory = work / str(number)
            directory.mkdir()
            outcomes[name] = server.run(arguments, directory)
        server.close()
        return outcomes

    return run
