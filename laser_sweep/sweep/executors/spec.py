"""What the `cluster` config group says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """Where workers run and what each gets.

    `address` is `local` (a Ray of this run's own), `auto` (the running cluster of this machine) or host:port.
    `gpus_per_worker` may be a fraction; `auto` is one where the cluster has GPUs, else none. `workers=auto` fills the
    cluster, also with nodes that join later. A worker that takes longer than `trial_timeout_s` for a trial is replaced;
    the trial of a lost worker is tried `max_attempts` times. `env` is set in every worker before it imports anything.
    """

    address: str = "local"
    workers: int | Literal["auto"] = "auto"
    cpus_per_worker: int = 1
    gpus_per_worker: float | Literal["auto"] = "auto"
    max_attempts: int = 3
    trial_timeout_s: float | None = None
    env: Mapping[str, str] = field(default_factory=dict)
