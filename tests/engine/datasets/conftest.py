"""A hub cache on disk for each family, with data sets in their sources' layout, and ways to ask its tiny model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest

from laser_sweep.engine.models.checkpoint import Checkpoint, find_checkpoint
from laser_sweep.engine.models.load import load_tokenizer
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import AskedModel, Task
from laser_sweep.engine.tasks.registry import load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.sweep.jobs import EvaluationSpec, Job, Question, build_jobs
from laser_sweep.sweep.search.space import Axes, Intervention
from laser_sweep.trial import Edit, Evaluation, Matrix, Trial, TrialResult

from .answers import OneByOne
from .models import EDITED, save_checkpoint, write_tokenizer
from .prompts import Asking
from .rows import REPOS, write_file, write_hub
from .studies import Study, answered

RHO, RANK = 0.1, 3  # of 32
EDITS = (Edit(matrix=Matrix("fc_in", 1), rho=RHO),)
LLAMA_COMMIT = "01c7f73d771dfac7d292323805ebc428287df4f9"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is read from, or left in, this machine's own cache of data sets."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets")


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`homes(family)`: a directory that holds its checkpoint as `model`, and its hub cache as `hub`."""

    @cache
    def home(family: str) -> Path:
        directory = tmp_path_factory.mktemp(family)
        save_checkpoint(family, directory / "model")
        llama = directory / "hub" / "models--meta-llama--Llama-2-7b-hf"
        write_tokenizer("llama2", llama / "snapshots" / LLAMA_COMMIT)
        (llama / "refs").mkdir()
        (llama / "refs" / "main").write_text(LLAMA_COMMIT)
        return directory

    return home


@pytest.fixture(scope="session")
def one_by_one(homes: Callable[[str], Path]) -> Callable[..., OneByOne]:
    """`one_by_one(family, edited=False)`; edited is as `EDITS` says."""

    @cache
    def make(family: str, *, edited: bool = False) -> OneByOne:
        return OneByOne(family, homes(family) / "model", EDITED[family] if edited else None, RANK)

    return make


@pytest.fixture(scope="session")
def _studies(homes: Callable[[str], Path], one_by_one: Callable[..., OneByOne]) -> Callable[..., Study]:
    @cache
    def files_of(family: str, name: str) -> Any:
        files = answered(name, asking(family), one_by_one(family))
        if name in REPOS:
            write_hub(homes(family) / "hub", name, files)
        else:
            for file, rows in files.items():
                write_file(homes(family) / file, name, rows)
        return files

    @cache
    def asking(family: str, *, published: bool = False) -> Asking:
        llama = one_by_one("llama2").tokenizer
        return Asking(family=family, tokenizer=one_by_one(family).tokenizer, llama=llama, published=published)

    @cache
    def make(family: str, name: str, *, published: bool = False) -> Study:
        files = files_of(family, name)
        questions = tuple(asking(family, published=published).questions(name, files))
        return Study(name, family, files, questions, published, one_by_one)

    return make


@pytest.fixture
def study(
    _offline: None, _studies: Callable[..., Study], homes: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Study]:
    """`study(family, name, published=False)`: its hub cache is this machine's while the test runs."""

    def enter(family: str, name: str, *, published: bool = False) -> Study:
        made = _studies(family, name, published=published)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(homes(family) / "hub"))
        return made

    return enter


@pytest.fixture(scope="session")
def checkpoints(homes: Callable[[str], Path]) -> Callable[[str], Checkpoint]:
    return lambda family: find_checkpoint(ModelSpec(name=family, path=str(homes(family) / "model")))


def task_of(spec: DatasetSpec, checkpoint: Checkpoint) -> Task:
    return load_task(spec, AskedModel(checkpoint.family, partial(load_tokenizer, checkpoint)))


@pytest.fixture
def task(checkpoints: Callable[[str], Checkpoint], homes: Callable[[str], Path]) -> Callable[..., Task]:
    """`task(study, **overrides)`: what the package makes of a data set."""

    def load(made: Study, **overrides: Any) -> Task:
        if made.name == "counterfact":
            overrides = {"path": str(homes(made.family) / "counterfact.json"), **overrides}
        return task_of(made.spec(**overrides), checkpoints(made.family))

    return load


Runs = Sequence[tuple[str, bool]]


@pytest.fixture
def run(checkpoints: Callable[[str], Checkpoint]) -> Callable[..., list[TrialResult]]:
    """`run(family or checkpoint, task, [(split, edited), ...], batch_tokens=)`: one result for each trial."""

    def measure(family: str | Checkpoint, loaded: Task, runs: Runs, *, batch_tokens: int = 600) -> list[TrialResult]:
        checkpoint = checkpoints(family) if isinstance(family, str) else family
        worker = Worker([Workload(checkpoint=checkpoint, task=loaded, batch_tokens=batch_tokens)], device="cpu")
        trials = [
            Trial(
                model=checkpoint.identity,
                edits=EDITS if edited else (),
                evaluation=Evaluation(dataset=loaded.name, revision=loaded.revision, split=split),  # type: ignore[arg-type]
            )
            for split, edited in runs
        ]
        return list(worker.run(trials))

    return measure


@pytest.fixture
def plan(checkpoints: Callable[[str], Checkpoint]) -> Callable[[str, DatasetSpec], Job]:
    """`plan(family, spec)`: what a sweep finds out before it starts."""

    def build(family: str, spec: DatasetSpec) -> Job:
        question = Question(
            sweep="sweep",
            model=checkpoints(family).spec,
            dataset=spec,
            intervention=Intervention(name="laser", method="laser"),
            axes=Axes(tau=("fc_in",), layer=(1,), rho=(RHO,)),
            evaluation=EvaluationSpec(split="all"),
            seed=0,
            config_json="{}",
        )
        (job,) = build_jobs([question])
        return job

    return build
