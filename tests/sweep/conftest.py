"""Jobs without a model, results without a device, and the demo that has both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.sweep.jobs import EvaluationSpec, Job, Question, build_jobs
from laser_sweep.sweep.search.grid import Axes, Intervention, LayerName, Proposal
from laser_sweep.trial import Edit, Matrix, Metrics, ModelId, Predictions, Seconds, Trial, TrialResult

if TYPE_CHECKING:
    from laser_sweep.engine.worker import Workload


@pytest.fixture(scope="session")
def make_job() -> Callable[..., Job]:
    def make(
        *,
        tau: Sequence[str] = ("fc_in",),
        layer: Sequence[int] = (0, 1, 2),
        rho: Sequence[float] = (0.1,),
        sweep: str = "sweep",
        model: str = "tiny",
        revision: str | None = None,
        dataset: str = "colours",
        examples: int = 50,
        seed: int = 0,
        config_json: str = "{}",
        **evaluation: object,
    ) -> Job:
        """A grid over a model that does not exist; 50 examples are 10 of val and 40 of test."""
        spec = ModelSpec(name=model, path="nowhere")
        identity = ModelId(name=model, repo="", revision=revision or f"files of {model}", dtype="float32")
        return Job(
            question=Question(
                sweep=sweep,
                model=spec,
                dataset=DatasetSpec(name=dataset, task="prompt_answer"),
                intervention=Intervention(name="laser", method="laser"),
                axes=Axes(tau=tuple(tau), layer=tuple(layer), rho=tuple(rho)),
                evaluation=EvaluationSpec(**evaluation),
                seed=seed,
                config_json=config_json,
            ),
            checkpoint=Checkpoint(spec, Path("nowhere"), identity, num_layers=3),
            task=Task(
                dataset, tuple(Example(id=str(i), prompt=f"{dataset} {i} is", gold="red") for i in range(examples))
            ),
            proposals=tuple(
                Proposal((Edit(matrix=Matrix(t, at), rho=r),), t, at, r) for t in tau for at in layer for r in rho
            ),
            prompt_tokens={"val": 1_000, "test": 4_000},
            parameters=5_000_000,
        )

    return make


@pytest.fixture(scope="session")
def answered() -> Callable[..., TrialResult]:
    def make(
        trial: Trial, correct: Sequence[bool] | npt.NDArray[np.bool_], *, log_loss: float = 1.0, **changes: object
    ) -> TrialResult:
        """What a worker returns for a trial that gets these examples right."""
        right = np.asarray(correct, dtype=np.bool_)
        count = len(right)
        accuracy = float(right.mean())
        values: dict[str, object] = {
            "trial": trial,
            "status": "done",
            "metrics": Metrics(
                num_examples=count,
                accuracy=accuracy,
                accuracy_stderr=float(np.sqrt(accuracy * (1 - accuracy) / count)),
                log_loss=log_loss,
            ),
            "predictions": Predictions(
                example_id=tuple(map(str, range(count))),
                prediction=("red",) * count,
                gold=("red",) * count,
                correct=right,
                gold_log_prob=np.full(count, -log_loss),
                gold_rank=np.zeros(count, dtype=np.int64),
                group=(None,) * count,
                frequency=(None,) * count,
            ),
            "ranks": (1,) * len(trial.edits),
            "worker": "host-1",
            "device": "cpu",
            "seconds": Seconds(eval=0.5),
            "started_at": 1_000_000.0,
            "finished_at": 1_000_000.5,
        }
        return TrialResult(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def demo_job() -> Callable[..., Job]:
    """The embedded model and data set; each is found and read once for all tests."""

    def make(
        tau: Sequence[str] = ("each",),
        layer: Sequence[LayerName] = ("each",),
        rho: Sequence[float] = (0.1,),
        **evaluation: object,
    ) -> Job:
        question = Question(
            sweep="demo",
            model=ModelSpec(name="demo", path="package://demo/assets"),
            dataset=DatasetSpec(name="demo", task="prompt_answer", path="package://demo/assets/examples.parquet"),
            intervention=Intervention(name="laser", method="laser"),
            axes=Axes(tau=tuple(tau), layer=tuple(layer), rho=tuple(rho)),
            evaluation=EvaluationSpec(**{"limit": 50, "test_limit": 50, **evaluation}),
            seed=0,
            config_json="{}",
        )
        return build_jobs([question])[0]

    return make


@pytest.fixture(scope="session")
def workload() -> Callable[[Job], Workload]:
    def make(job: Job) -> Workload:
        from laser_sweep.engine.worker import Workload

        return Workload(checkpoint=job.checkpoint, task=job.task)

    return make
