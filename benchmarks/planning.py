"""Planning a grid of 10,000 trials against Hydra composing a configuration for each of them.

Planned is what `laser-sweep` does before the first trial: one configuration composed and checked, model and data set
found, the grid expanded, the trials that the store holds taken out, the rest put into work units. Hydra's own sweeper
composes each job twice, once to check it and once to run it; that is measured on a sample and scaled. Both sides name
the same trials.
"""

from __future__ import annotations

import json
import logging
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from rich.table import Table

from benchmarks.command import Figures, run, show
from benchmarks.shapes import fever_like, write_llama
from laser_sweep.cli import CONF
from laser_sweep.config import read_request
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import build_jobs
from laser_sweep.sweep.plan import compare, first_trials, subtract_stored, work_units
from laser_sweep.trial import Footprint, Metrics, Trial, TrialResult

TAUS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_up", "fc_out")
VOCABULARY = 500


@dataclass(frozen=True)
class Size:
    layers: int
    rhos: int
    examples: int
    stored: int
    """Trials in the store: four fifths of them in a merged file, the others in files of their own."""
    composed: int
    """Jobs that Hydra composes."""

    @property
    def trials(self) -> int:
        return len(TAUS) * self.layers * self.rhos


FULL = Size(layers=32, rhos=45, examples=13_000, stored=1_000, composed=60)
SMALL = Size(layers=2, rhos=3, examples=50, stored=10, composed=3)


@dataclass
class Stopwatch:
    """Seconds by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def measure(size: Size) -> Figures:
    """Plans the grid, has Hydra compose a sample of it, and compares the trials that come out."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory, initialize_config_dir(str(CONF), version_base="1.3"):
        root = Path(directory)
        common = write_inputs(root, size)
        rhos = [round((number + 1) / (size.rhos + 1), 4) for number in range(size.rhos)]
        axes = ["tau=each", "layer=each", f"rho=[{','.join(map(str, rhos))}]"]
        plan([*common, *axes[:2], "rho=0.5"], root / "none", Stopwatch())  # loads what the first use loads
        fill(root / "store", plan([*common, *axes], root / "none", Stopwatch()), size.stored)

        watch = Stopwatch()
        pending = plan([*common, *axes], root / "store", watch)
        assert len({trial.key for trial in pending}) == len(pending) == size.trials + 1 - size.stored

        sample = random.Random(0).sample(pending, size.composed)
        started = time.perf_counter()
        composed = compose_each(common, sample)
        per_job = (time.perf_counter() - started) / len(sample)
        jobs = build_jobs(read_request(config).question for config in composed)
        assert [{trial.key for trial in job.trials("val")} for job in jobs] == [{trial.key} for trial in sample]

    ours = sum(watch.seconds.values()) * 10_000 / size.trials
    table = Table("step", "s")
    for name, seconds in watch.seconds.items():
        table.add_row(name, f"{seconds:.3f}")
    table.add_section()
    table.add_row("10,000 trials planned", f"{ours:.2f}")
    table.add_row("10,000 jobs composed twice by Hydra", f"{per_job * 10_000:.0f}")
    show(
        f"{len(TAUS)} matrix types x {size.layers} layers x {size.rhos} rho = {size.trials:,} trials on "
        f"{size.examples:,} examples, {size.stored:,} of them stored; scaled to 10,000. Hydra: "
        f"{size.composed} jobs, {1e3 * per_job:.0f} ms each.",
        table,
    )
    return {
        "seconds_per_10000_trials": ours,
        "hydra_seconds_per_10000_trials": per_job * 10_000,
        "planning_ratio": per_job * 10_000 / ours,
    }


def write_inputs(root: Path, size: Size) -> list[str]:
    """A model and a data set in files, and the overrides that name them."""
    write_llama(root / "model", layers=size.layers, hidden=64, vocabulary=VOCABULARY)
    rows = [{"prompt": one.prompt, "answer": one.gold} for one in fever_like(size.examples, VOCABULARY).examples]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = f"model.path={root / 'model'}"
    return [model, "model.name=llama", "dataset=jsonl", f"dataset.path={root / 'rows.jsonl'}", "tracking=none"]


def plan(overrides: Sequence[str], store: Path, watch: Stopwatch) -> list[Trial]:
    """The trials left to run, from the words of a command line."""
    with watch.step("compose one configuration"):
        config = load(overrides)
    with watch.step("check it"):
        request = read_request(config)
    with watch.step("find model and data set, tokenise, expand"):
        jobs = build_jobs([request.question])
    with watch.step("name the trials"):
        trials = first_trials(compare(jobs))
    with watch.step("subtract the stored ones"):
        pending = subtract_stored(trials, ParquetStore(store), "auto").pending
    with watch.step("put them into work units"):
        units = work_units(pending, jobs)
    return [trial for unit in units for trial in unit.trials]


def load(overrides: Sequence[str]) -> DictConfig:
    loader = GlobalHydra.instance().config_loader()
    return without_hydra(loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN))


def compose_each(common: Sequence[str], trials: Sequence[Trial]) -> list[DictConfig]:
    """What Hydra's basic sweeper and launcher compose for one job each: the first is thrown away."""
    loader = GlobalHydra.instance().config_loader()
    master = loader.load_configuration("config", list(common), run_mode=RunMode.MULTIRUN)
    composed = []
    for trial in trials:
        job = [*common, f"tau={trial.tau}", f"layer={trial.layer}", f"rho={trial.rho}"]
        loader.load_sweep_config(master, list(job))
        composed.append(without_hydra(loader.load_sweep_config(master, list(job))))
    return composed


def without_hydra(config: DictConfig) -> DictConfig:
    with open_dict(config):
        del config["hydra"]
    return config


def fill(root: Path, trials: Sequence[Trial], count: int) -> None:
    """Stores results for some of the trials."""
    store = ParquetStore(root)
    metrics = Metrics(num_examples=100, accuracy=0.5, accuracy_stderr=0.05, log_loss=1.0)
    for number, trial in enumerate(random.Random(1).sample([trial for trial in trials if trial.edits], count)):
        result = TrialResult(trial=trial, status="done", metrics=metrics, footprints=(Footprint(rank=1),))
        store.write(result, "planning", "{}")
        if number == count * 4 // 5:
            store.compact()


if __name__ == "__main__":
    run(measure, full=FULL, small=SMALL, description=__doc__)
