"""Who runs what in a store that several sweeps share."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

HEARTBEAT_SECONDS = 10.0
_OWNER = ".owner"
STALE_SECONDS = 60.0
"""An owner on another machine that has shown no sign of life for so long is given up."""


class Claims:
    """A file for each trial under way, named by its key, in which its owner stands.

    Claims save work and decide nothing: where two sweeps believe that a trial is theirs, both measure the same numbers
    and the later result takes the earlier one's place. An owner is a process with a locked file. On its own machine the
    lock shows whether it lives, which ends with the process, however that ends; elsewhere the time at which it last
    touched the file does.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{_OWNER}"
        self._lock = FileLock(directory / self._name, thread_local=False)
        self._held: set[str] = set()
        self._left = threading.Event()

    def take(self, key: str) -> bool:
        """Whether this process may run a trial; False where another one does."""
        if key in self._held:
            return True
        try:
            taken = self._take(key)
        except OSError:  # a file system without locks, or a full one: nothing is shared there
            return True
        if taken:
            self._held.add(key)
        return taken

    def drop(self, key: str) -> None:
        """The trial is stored, or left to others."""
        if key in self._held:
            self._held.discard(key)
            with suppress(OSError):
                (self._directory / key).unlink()

    def leave(self) -> None:
        """Drops all claims, and leaves no file behind, nor any of an owner that was killed."""
        for key in list(self._held):
            self.drop(key)
        with suppress(OSError):
            if self._directory.is_dir():
                self._enter()
                self._sweep_up()
        if self._lock.is_locked:
            self._left.set()
            self._lock.release()
            with suppress(OSError):
                (self._directory / self._name).unlink()
        with suppress(OSError):
            self._directory.rmdir()  # of the last one who leaves

    def _take(self, key: str) -> bool:
        self._enter()
        file = self._directory / key
        try:
            with file.open("x") as claim:
                claim.write(self._name)
            return True
        except FileExistsError:
            if self._lives(file):
                return False
        file.write_text(self._name)
        return True

    def _enter(self) -> None:
        """Takes this process's own lock, and touches it from then on."""
        if not self._lock.is_locked:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._left = threading.Event()
            threading.Thread(target=self._beat, args=(self._left,), name="claims", daemon=True).start()

    def _beat(self, left: threading.Event) -> None:
        while not left.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                os.utime(self._directory / self._name)

    def _sweep_up(self) -> None:
        """Removes what dead owners have left, which nobody may ever ask for again."""
        for file in list(self._directory.iterdir()):
            with suppress(FileNotFoundError):  # who else sweeps up may be there first
                if not (self._runs(file) if file.suffix == _OWNER else self._lives(file)):
                    file.unlink()

    def _lives(self, claim: Path) -> bool:
        """Whether the owner of a claim still runs."""
        try:
            name = claim.read_text()
            # One that is being written has no name yet.
            return self._runs(self._directory / name) if name else self._fresh(claim)
        except FileNotFoundError:
            return False

    def _fresh(self, file: Path) -> bool:
        """Both times are by the clock of the file system."""
        return (self._directory / self._name).stat().st_mtime - file.stat().st_mtime < STALE_SECONDS

    def _runs(self, owner: Path) -> bool:
        """Whether an owner still runs; the file of one that does not goes. Raises FileNotFoundError without one."""
        fresh = self._fresh(owner)
        if owner.name.rpartition("-")[0].rpartition("-")[0] != socket.gethostname():
            return fresh
        try:
            with FileLock(owner, timeout=0, thread_local=False):
                owner.unlink()
        except Timeout:
            return True
        return False
