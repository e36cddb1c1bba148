"""What the `cluster` config group accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from laser_sweep.cli import CONF
from laser_sweep.config import read_request
from laser_sweep.errors import RequestError
from laser_sweep.sweep.executors.spec import ClusterSpec


@pytest.fixture
def cluster() -> Callable[..., ClusterSpec]:
    def read(*overrides: str) -> ClusterSpec:
        with initialize_config_dir(str(Path(CONF)), version_base="1.3"):
            return read_request(compose("config", list(overrides))).settings.cluster

    return read


def test_by_default_a_sweep_has_a_ray_of_its_own_and_fills_the_machine(cluster: Callable[..., ClusterSpec]) -> None:
    assert cluster() == ClusterSpec()
    assert (ClusterSpec().address, ClusterSpec().workers) == ("local", "auto")


@pytest.mark.parametrize(("value", "read"), [("0.5", 0.5), ("2", 2), ("auto", "auto"), ("0", 0)])
def test_gpus_are_a_fraction_a_whole_number_or_auto(
    cluster: Callable[..., ClusterSpec], value: str, read: object
) -> None:
    assert cluster(f"cluster.gpus_per_worker={value}").gpus_per_worker == read


@pytest.mark.parametrize("value", ["1.5", "-1", "some"])
def test_gpus_that_no_worker_can_have_are_refused_before_ray_starts(
    cluster: Callable[..., ClusterSpec], value: str
) -> None:
    with pytest.raises(RequestError, match=rf"cluster\.gpus_per_worker={value}"):
        cluster(f"cluster.gpus_per_worker={value}")


@pytest.mark.parametrize("override", ["cluster.workers=0", "cluster.cpus_per_worker=0", "cluster.max_attempts=0"])
def test_counts_below_one_are_refused(cluster: Callable[..., ClusterSpec], override: str) -> None:
    with pytest.raises(RequestError, match=override):
        cluster(override)
