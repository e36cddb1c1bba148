"""Several sweeps on one store: who runs what, and what becomes of it when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from laser_sweep.store import claims as claims_module
from laser_sweep.store.claims import Claims

OTHER = """
import sys, time
from pathlib import Path
from laser_sweep.store.claims import Claims
claims = Claims(Path(sys.argv[1]))
print(*(claims.take(key) for key in sys.argv[2:]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Another process that claims trials; what it was told is on its first line."""
    started: list[subprocess.Popen[str]] = []

    def start(*keys: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(tmp_path / "running"), *keys], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def answer(process: subprocess.Popen[str]) -> list[bool]:
    assert process.stdout is not None
    return [word == "True" for word in process.stdout.readline().split()]


def test_a_trial_belongs_to_the_first_who_claims_it_until_they_drop_it(tmp_path: Path) -> None:
    mine, theirs = Claims(tmp_path / "running"), Claims(tmp_path / "running")
    assert mine.take("a")
    assert mine.take("a")
    assert not theirs.take("a")
    assert theirs.take("b")
    assert not mine.take("b")
    mine.drop("a")
    assert theirs.take("a")
    theirs.drop("c")  # what was never claimed is nothing to drop
    mine.leave()
    theirs.leave()
    assert list(tmp_path.iterdir()) == []


def test_of_many_who_claim_at_once_one_gets_each_trial(tmp_path: Path) -> None:
    everybody = [Claims(tmp_path / "running") for _ in range(8)]
    keys = [f"{number:016x}" for number in range(40)]
    taken: list[list[str]] = [[] for _ in everybody]
    ready = threading.Barrier(len(everybody))

    def claim(number: int) -> None:
        ready.wait()
        taken[number] = [key for key in keys if everybody[number].take(key)]

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(len(everybody))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key for mine in taken for key in mine) == keys
    for claims in everybody:
        claims.leave()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_was_running_is_free_at_once(
    tmp_path: Path, other: Callable[..., subprocess.Popen[str]]
) -> None:
    process = other("a", "b")
    assert answer(process) == [True, True]
    mine = Claims(tmp_path / "running")
    assert not mine.take("a")
    os.kill(process.pid, signal.SIGSTOP)
    assert not mine.take("a")  # it may go on
    process.kill()
    process.wait()
    assert mine.take("a")
    assert mine.take("b")
    mine.leave()
    assert list(tmp_path.iterdir()) == []


def test_the_last_who_leaves_sweeps_up_after_those_who_were_killed(
    tmp_path: Path, other: Callable[..., subprocess.Popen[str]]
) -> None:
    killed, alive = other("a"), other("b")
    assert answer(killed) == answer(alive) == [True]
    killed.kill()
    killed.wait()
    Claims(tmp_path / "running").leave()  # nothing was claimed
    left = sorted(file.name for file in (tmp_path / "running").iterdir())
    assert left[0] == "b"
    assert [name.split("-")[-2] for name in left[1:]] == [str(alive.pid)]
    alive.kill()
    alive.wait()
    Claims(tmp_path / "running").leave()
    assert list(tmp_path.iterdir()) == []


def test_a_process_on_another_machine_lives_as_long_as_it_shows_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Callable[..., subprocess.Popen[str]]
) -> None:
    """Its lock cannot be tried from here, as this machine is made to believe by another name."""
    monkeypatch.setattr(claims_module.socket, "gethostname", lambda: "here")
    monkeypatch.setattr(claims_module, "STALE_SECONDS", 3.0)
    mine = Claims(tmp_path / "running")
    mine.take("mine")
    assert answer(other("a")) == [True]
    assert not mine.take("a")
    [theirs] = [file for file in (tmp_path / "running").glob("*.owner") if not file.name.startswith("here-")]
    now = time.time()
    os.utime(theirs, (now - 2, now - 2))
    assert not mine.take("a")
    os.utime(theirs, (now - 10, now - 10))
    assert mine.take("a")
    mine.leave()


def test_a_process_touches_its_file_as_long_as_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims_module, "HEARTBEAT_SECONDS", 0.05)
    mine = Claims(tmp_path / "running")
    mine.take("a")
    [owner] = (tmp_path / "running").glob("*.owner")
    os.utime(owner, (1, 1))
    deadline = time.monotonic() + 10
    while owner.stat().st_mtime < 1000 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert owner.stat().st_mtime > time.time() - 60
    mine.leave()
    assert not owner.exists()


def test_where_nothing_can_be_written_down_nothing_is_shared(tmp_path: Path) -> None:
    (tmp_path / "running").write_text("a file where the directory should be")
    mine = Claims(tmp_path / "running")
    assert mine.take("a")
    assert Claims(tmp_path / "running").take("a")
    mine.leave()
