"""`hydra/launcher=laser_sweep`: all jobs of a batch as one sweep on Ray, with shared workers and one plan."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

ConfigStore.instance().store(
    group="hydra/launcher",
    name="laser_sweep",
    node={"_target_": "hydra_plugins.laser_sweep.launcher.LaserLauncher"},  # workers: see the `cluster` group
    provider="laser_sweep",
)


class LaserLauncher(Launcher):
    """Composes the jobs, runs the union of their trials, and returns each job's best val accuracy, in input order."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._context = hydra_context
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        # Only a sweep needs it: plugins are imported by every Hydra application on the machine.
        from laser_sweep.cli import run_configs

        setup_globals()
        configure_log(self._config.hydra.hydra_logging, self._config.hydra.verbose)
        returns = []
        configs = []
        for place, overrides in enumerate(job_overrides):
            composed = self._context.config_loader.load_sweep_config(self._config, list(overrides))
            with open_dict(composed):
                composed.hydra.job.id = composed.hydra.job.num = initial_job_idx + place
            job = JobReturn(overrides=list(overrides), hydra_cfg=OmegaConf.masked_copy(composed, ["hydra"]))
            HydraConfig.instance().set_config(composed)
            with open_dict(composed):
                del composed["hydra"]
            job.cfg = composed
            configs.append(composed)
            returns.append(job)
        for job, objective in zip(returns, run_configs(configs, on_ray=True), strict=True):
            job.status, job.return_value = JobStatus.COMPLETED, objective
        return returns
