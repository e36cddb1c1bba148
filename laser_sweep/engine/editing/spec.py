"""What the `cache` config group says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpec:
    """Where decompositions are kept on every machine, and at most how much of them; 0 keeps none."""

    dir: str | None = None
    factors_gb: float = 20.0
