"""Hosts on one machine: each with a network, processes, a name and a disk of its own, joined by a switch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
_TOOLS = ("ip", "mount", "nsenter", "setpriv", "unshare")
_OWN = ("--net", "--pid", "--mount", "--uts", "--ipc")
# Its first process collects the processes that lose their parent, and ends with the process that made the host.
_BOOT = ("setpriv", "--pdeathsig", "KILL", "unshare", *_OWN, "--fork", "--kill-child", "--mount-proc")
_INIT = ("bash", "-c", "sleep infinity & wait")


def why_no_hosts() -> str | None:
    """What this machine lacks, in a line; None where hosts can be made."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"hosts need {', '.join(missing)}: apt-get install iproute2 util-linux"
    if os.geteuid() != 0:
        return "hosts are network namespaces, which only root can make"
    made = subprocess.run(["unshare", *_OWN, "--fork", "--mount-proc", "true"], capture_output=True, text=True)
    return None if made.returncode == 0 else f"this machine makes no namespaces: {made.stderr.strip()}"


@dataclass(frozen=True)
class Host:
    """A host; `disk` is its own under the same path as every other's, and `files` is where this process sees it."""

    name: str
    address: str
    disk: Path
    files: Path
    environment: Mapping[str, str]
    _namespaces: int
    _switch: int

    def run(self, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host to its end; its output is in the answer."""
        settings: dict[str, object] = {"env": self.environment, "capture_output": True, "text": True}
        return subprocess.run(_inside(self._namespaces, command, self.disk), **{**settings, "timeout": 60, **options})  # type: ignore[call-overload]

    def start(self, *command: str, log: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts a command, which ends with the host at the latest; what it says goes to `log` on the disk."""
        with (self.files / log).open("ab") as output:
            return subprocess.Popen(
                _inside(self._namespaces, command, self.disk),
                env={**self.environment, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def log(self, name: str) -> str:
        path = self.files / name
        return path.read_text(errors="replace") if path.exists() else ""

    def unplug(self) -> None:
        """Takes the cable out of the switch: the host goes on, and nothing reaches it any more."""
        _network(self._switch, "link", "set", f"to-{self.name}", "down")


@contextmanager
def hosts(count: int, *, share: Sequence[str] = ()) -> Iterator[list[Host]]:
    """Hosts named node1, node2, ... at 10.77.0.1, 10.77.0.2, ...; the directories named in `share` are one for all.

    All of it is gone afterwards, also where this process is killed: nothing of it has a name outside.
    """
    base = Path(tempfile.mkdtemp(prefix="hosts-", dir="/tmp"))  # the names of Ray's sockets must be short
    disk = base / "disk"
    disk.mkdir()
    started: list[subprocess.Popen[bytes]] = []
    try:
        switch = _boot(started)
        _network(switch, "link", "add", "switch", "type", "bridge")
        _network(switch, "link", "set", "switch", "up")
        made = []
        for number in range(1, count + 1):
            name, address, files = f"node{number}", f"10.77.0.{number}", base / f"node{number}"
            pid = _boot(started)
            for directory in ("home", "cache", *share):
                (files / directory).mkdir(parents=True)
            _check(_inside(pid, ["mount", "--bind", str(files), str(disk)]))
            for directory in share:
                (base / directory).mkdir(exist_ok=True)
                _check(_inside(pid, ["mount", "--bind", str(base / directory), str(disk / directory)]))
            _check(_inside(pid, ["hostname", name]))
            _plug_in(pid, switch, name, address)
            made.append(Host(name, address, disk, files, _environment(disk), pid, switch))
        yield made
    finally:
        for process in started:
            process.kill()
            process.wait()
        shutil.rmtree(base, ignore_errors=True)


def wait_until(happened: Callable[[], bool], seconds: float, explain: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, explain()
        time.sleep(0.05)


def _boot(started: list[subprocess.Popen[bytes]]) -> int:
    """Makes namespaces and returns the process that holds them."""
    process = subprocess.Popen([*_BOOT, *_INIT], stdin=subprocess.DEVNULL)
    started.append(process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: process.poll() is not None or bool(children.read_text()), 10)
    assert process.poll() is None, "no namespaces could be made"
    pid = int(children.read_text())
    wait_until(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"bash"), 10)  # the others are its parents'
    return pid


def _plug_in(host: int, switch: int, name: str, address: str) -> None:
    port = f"to-{name}"
    _network(switch, "link", "add", "eth0", "netns", str(host), "type", "veth", "peer", "name", port)
    _network(switch, "link", "set", port, "master", "switch", "up")
    _network(host, "link", "set", "lo", "up")
    _network(host, "address", "add", f"{address}/24", "dev", "eth0")
    _network(host, "link", "set", "eth0", "up")


def _network(pid: int, *command: str) -> None:
    _check(["nsenter", "--target", str(pid), "--net", "ip", *command])


def _inside(pid: int, command: Sequence[str], at: Path | None = None) -> list[str]:
    # In another mount namespace a process starts at the root.
    return ["nsenter", "--target", str(pid), *_OWN, "--", *(["env", f"--chdir={at}"] if at else []), *command]


def _check(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


def _environment(disk: Path) -> dict[str, str]:
    """This process's Python and our package; home, caches and Ray's files on the own disk; no hub, no tracker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB", "HF_", "HYDRA"))}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'launchers'}",
        "HOME": str(disk / "home"),
        "XDG_CACHE_HOME": str(disk / "cache"),
        "RAY_TMPDIR": str(disk),
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
    }


if __name__ == "__main__":
    sys.exit(why_no_hosts())
