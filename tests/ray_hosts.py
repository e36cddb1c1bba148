"""Ray on several hosts of this machine, none of which shares a disk with another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest

from .hosts import Host, hosts, wait_until, why_no_hosts

# How soon Ray takes a silent host for lost: after some seconds instead of about a minute.
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


def start_ray(
    head: Host, host: Host, *, cpus: int, dashboard: bool = False, env: Mapping[str, str] = IMPATIENT
) -> None:
    """`ray start` on a host."""
    roles = ["--head", "--port=6379", f"--include-dashboard={str(dashboard).lower()}"]
    role = roles if host is head else [f"--address={head.address}:6379"]
    options = [f"--node-ip-address={host.address}", f"--num-cpus={cpus}", "--num-gpus=0", "--disable-usage-stats"]
    node = host.start("ray", "start", "--block", *role, *options, log="ray.log", env=env)
    wait_until(
        lambda: node.poll() is not None or "Ray runtime started" in host.log("ray.log"), 60, lambda: host.log("ray.log")
    )
    assert node.poll() is None, host.log("ray.log")


@contextmanager
def ray_hosts(cpus: Sequence[int]) -> Iterator[list[Host]]:
    """Hosts with so many CPUs each; the first is the head, where the sweep is started."""
    reason = why_no_hosts()
    if reason is not None:
        pytest.skip(reason)
    with hosts(len(cpus)) as made:
        for host, share in zip(made, cpus, strict=True):
            start_ray(made[0], host, cpus=share)
        yield made
