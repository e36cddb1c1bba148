"""A job on the demo, and one Ray for the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from laser_sweep.sweep.jobs import Job

if TYPE_CHECKING:
    from laser_sweep.sweep.executors.ray import RayExecutor


@pytest.fixture(scope="module")
def job(demo_job: Callable[..., Job]) -> Job:
    return demo_job(tau=["fc_in", "fc_out"], layer=["each"], rho=[0.05, 0.4])


@pytest.fixture(scope="module")
def ray_executor() -> Iterator[type[RayExecutor]]:
    """One Ray for all tests of this module, which believes that it has a GPU."""
    import ray

    from laser_sweep.sweep.executors.ray import RayExecutor  # sets what Ray reads when it is imported

    ray.init(
        address="local", num_cpus=6, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    yield RayExecutor
    ray.shutdown()
