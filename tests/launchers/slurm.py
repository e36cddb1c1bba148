"""A Slurm on hosts of this machine, from Debian's packages, with state and configuration of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..hosts import Host, hosts, wait_until, why_no_hosts

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
SHARED = "shared"


def why_no_slurm() -> str | None:
    """What this machine lacks, in a line; None where a Slurm can be brought up."""
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_path()) is None]
    if missing:
        return f"no {', '.join(missing)} here: apt-get install slurm-wlm munge"
    return why_no_hosts()


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Slurm:
    """A cluster; `shared` is a directory that all hosts have in common, as this process sees it."""

    nodes: list[Host]
    environment: Mapping[str, str]
    shared: Path
    disk: Path

    def run(self, *command: str) -> str:
        """A command on the first host, in the shared directory; what it prints."""
        done = self.nodes[0].run("env", f"--chdir={self.disk}", *command, env=self.environment)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return str(done.stdout).strip()

    def submit(self, *arguments: str) -> str:
        return self.run("sbatch", "--parsable", *arguments)

    def job(self, number: str) -> dict[str, str]:
        """The fields of a job, such as JobState and ExitCode."""
        words = self.run("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def logs(self) -> str:
        files = [*self.shared.glob("*.log"), *(file for node in self.nodes for file in node.files.glob("slurm*.log"))]
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-6000:]}" for file in files)

    def wait(self, number: str, states: set[str], seconds: float) -> dict[str, str]:
        wait_until(lambda: self.job(number)["JobState"] in states, seconds, self.logs)
        return self.job(number)


@contextmanager
def slurm(count: int) -> Iterator[Slurm]:
    """A controller on the first host and a node on every one."""
    with hosts(count, share=[SHARED]) as made:
        shared = made[0].files.parent / SHARED
        disk = made[0].disk / SHARED
        (shared / "slurm.conf").write_text(_configuration(made))
        key = secrets.token_bytes(1024)
        environment = {
            **made[0].environment,
            "SLURM_CONF": str(disk / "slurm.conf"),
            "PATH": f"{made[0].environment['PATH']}:/usr/sbin:/sbin",
        }
        for host in made:
            _start_munge(host, key)
            if host is made[0]:
                host.start("slurmctld", "-D", log="slurmctld.log", env=environment)
            host.start("slurmd", "-D", "-N", host.name, log="slurmd.log", env=environment)
        cluster = Slurm(made, environment, shared, disk)
        wait_until(lambda: _idle(cluster) == count, 60, cluster.logs)
        yield cluster


def _start_munge(host: Host, key: bytes) -> None:
    """Slurm's authentication, with one key for all hosts, as the user that owns the key."""
    directory = host.files / "munge"
    directory.mkdir()
    (directory / "key").write_bytes(key)
    (directory / "key").chmod(0o400)
    at = host.disk / "munge"
    host.start(
        "munged",
        "--foreground",
        "--force",
        f"--key-file={at}/key",
        f"--socket={at}/socket",
        f"--pid-file={at}/pid",
        f"--seed-file={at}/seed",
        f"--log-file={at}/log",
        log="munged.log",
    )
    wait_until((directory / "socket").exists, 20, lambda: host.log("munged.log"))


def _idle(cluster: Slurm) -> int:
    done = cluster.nodes[0].run(
        "sinfo", "--noheader", "--Node", "--partition=usual", "--format=%T", env=cluster.environment
    )
    return str(done.stdout).split().count("idle")


def _configuration(nodes: list[Host]) -> str:
    head, disk, names = nodes[0], nodes[0].disk, ",".join(node.name for node in nodes)
    lines = [
        "ClusterName=hosts",
        f"SlurmctldHost={head.name}({head.address})",
        "SlurmUser=root",
        f"AuthInfo=socket={disk}/munge/socket",
        f"StateSaveLocation={disk}/slurmctld",
        f"SlurmdSpoolDir={disk}/slurmd",
        f"SlurmctldPidFile={disk}/slurmctld.pid",
        f"SlurmdPidFile={disk}/slurmd.pid",
        "ProctrackType=proctrack/pgid",
        "TaskPlugin=task/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "MpiDefault=none",
        "ReturnToService=2",
        "KillWait=5",
        "SlurmdTimeout=10",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        "SlurmctldParameters=preempt_send_user_signal",
        *(f"NodeName={node.name} NodeAddr={node.address} CPUs=2 RealMemory=4000" for node in nodes),
        f"PartitionName=usual Nodes={names} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60",
        f"PartitionName=urgent Nodes={names} MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(why_no_slurm())
