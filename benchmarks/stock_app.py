"""One trial for each Hydra job, as one writes it first: the function loads the model and returns the accuracy.

Run by `benchmarks.vs_stock_launcher` with Hydra's own sweeper and Ray launcher; it reads our configuration files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import hydra
from omegaconf import DictConfig

from laser_sweep.cli import CONF

ANSWERS = "LASER_SWEEP_STOCK_ANSWERS"
"""The variable with the directory to which each job writes a file: the key of its trial and the accuracy."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def task(config: DictConfig) -> float:
    from laser_sweep.config import read_request
    from laser_sweep.engine.worker import Worker, Workload
    from laser_sweep.sweep.jobs import build_jobs

    (job,) = build_jobs([read_request(config).question])
    (trial,) = job.trials("val")
    worker = Worker([Workload(checkpoint=job.checkpoint, task=job.task)])
    accuracy = next(worker.run([trial])).measured().accuracy
    (Path(os.environ[ANSWERS]) / f"{trial.key}.json").write_text(json.dumps(accuracy))
    return accuracy


if __name__ == "__main__":
    task()
