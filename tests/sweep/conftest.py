"""Jobs without a model, results without a device, a sweep of both, and the demo that has all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import binomtest

from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.spec import ModelSpec
from laser_sweep.engine.tasks.example import Example, Task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.measures import Objective
from laser_sweep.probe import Probe, ProbeResult
from laser_sweep.store.store import ParquetStore
from laser_sweep.sweep.jobs import EvaluationSpec, GuardSpec, Job, Question, build_jobs
from laser_sweep.sweep.measure import Measurer, OnError
from laser_sweep.sweep.outcome import Outcome
from laser_sweep.sweep.plan import Resume
from laser_sweep.sweep.protocols import Claim, Work, WorkResult, WorkUnit
from laser_sweep.sweep.run import Sweep
from laser_sweep.sweep.search.space import Axes, Intervention, LayerName, Place, Space
from laser_sweep.sweep.search.spec import GridSpec, SearchSpec
from laser_sweep.sweep.tracking.tracker import GuardedTracker, NullTracker
from laser_sweep.trial import Footprint, Matrix, Metrics, ModelId, Predictions, Seconds, Trial, TrialResult

if TYPE_CHECKING:
    from laser_sweep.engine.worker import Workload


GRID = GridSpec()
LASER = Intervention(name="laser", method="laser")


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
        search: SearchSpec = GRID,
        objective: Objective = "accuracy",
        guard: Job | None = None,
        bound: float = 0.1,
        places: Sequence[Place] | None = None,
        intervention: Intervention = LASER,
        **evaluation: object,
    ) -> Job:
        """A grid over a model that does not exist; 50 examples are 10 of val and 40 of test."""
        spec = ModelSpec(name=model, path="nowhere")
        guard_spec = None if guard is None else GuardSpec(dataset=guard.question.dataset, bound=bound)
        there = places or [Place(t, at, (Matrix(t, at),)) for t in tau for at in layer]
        space = Space(intervention=intervention, places=tuple(there), rhos=tuple(rho))
        identity = ModelId(name=model, repo="", revision=revision or f"files of {model}", dtype="float32")
        return Job(
            question=Question(
                sweep=sweep,
                model=spec,
                dataset=DatasetSpec(name=dataset, format="prompt_answer"),
                intervention=intervention,
                axes=Axes(tau=tuple(tau), layer=tuple(layer), rho=tuple(rho)),
                evaluation=EvaluationSpec(**evaluation),
                seed=seed,
                config_json=config_json,
                search=search,
                objective=objective,
                guard=guard_spec,
            ),
            checkpoint=Checkpoint(spec, Path("nowhere"), identity, num_layers=3),
            task=Task(
                dataset, tuple(Example(id=str(i), prompt=f"{dataset} {i} is", gold="red") for i in range(examples))
            ),
            space=space,
            guard=guard,
            prompt_tokens={"val": 1_000, "test": 4_000},
            parameters=5_000_000,
            num_layers=3,
        )

    return make


@pytest.fixture(scope="session")
def answered() -> Callable[..., TrialResult]:
    def make(
        trial: Trial,
        correct: Sequence[bool] | npt.NDArray[np.bool_],
        *,
        log_loss: float | npt.NDArray[np.float64] = 1.0,
        ids: Sequence[str] | None = None,
        **changes: object,
    ) -> TrialResult:
        """What a worker returns for a trial that gets these examples right."""
        right = np.asarray(correct, dtype=np.bool_)
        count = len(right)
        losses = np.broadcast_to(np.float64(log_loss), right.shape)
        accuracy = float(right.mean())
        values: dict[str, object] = {
            "trial": trial,
            "status": "done",
            "metrics": Metrics(
                num_examples=count,
                accuracy=accuracy,
                accuracy_stderr=float(np.sqrt(accuracy * (1 - accuracy) / count)),
                log_loss=float(losses.mean()),
            ),
            "predictions": Predictions(
                example_id=tuple(map(str, range(count)) if ids is None else ids),
                prediction=("red",) * count,
                gold=("red",) * count,
                correct=right,
                gold_log_prob=-losses,
                gold_length=np.ones(count, dtype=np.int64),
                gold_rank=np.zeros(count, dtype=np.int64),
                text_rank=np.zeros(count, dtype=np.int64),
                f1=np.full(count, np.nan),
                **dict.fromkeys(("group", "subject", "relation", "frequency"), (None,) * count),
            ),
            "footprints": (Footprint(rank=1, parameters=64),) * len(trial.edits),
            "worker": "host-1",
            "device": "cpu",
            "seconds": Seconds(eval=0.5),
            "started_at": 1_000_000.0,
            "finished_at": 1_000_000.5,
        }
        return TrialResult(**{**values, **changes})

    return make


class Devices:
    """An Executor: measures trials and answers probes with functions, in the order of the units or another one."""

    def __init__(
        self,
        measure: Callable[[Trial], TrialResult],
        look: Callable[[Probe], ProbeResult],
        order: Callable[[list[Work]], Sequence[Work]],
    ) -> None:
        self._measure = measure
        self._look = look
        self._order = order
        self._draining = False
        self.asked: list[list[Work]] = []
        self.closed = 0

    def run(self, units: Sequence[WorkUnit], claim: Claim) -> Iterator[WorkResult]:
        works = [work for unit in units for work in unit.trials]
        self.asked.append(works)
        for work in self._order(works):
            if self._draining:
                return
            if not claim(work):
                continue
            yield self._look(work) if isinstance(work, Probe) else self._measure(work)

    def drain(self) -> None:
        self._draining = True

    def close(self) -> None:
        self.closed += 1


class Watcher:
    """A Progress that writes down what it is told."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.results: list[TrialResult] = []
        self.notes: list[str] = []
        self.stops = 0

    def start(self, total: int, reused: int) -> None:
        self.started.append((total, reused))

    def result(self, result: TrialResult) -> None:
        self.results.append(result)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop(self) -> None:
        self.stops += 1


class Listener(NullTracker):
    """A Tracker that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.heard: list[TrialResult] = []

    def start(self, sweep: str, config_json: str) -> None:
        self.calls.append(f"start {sweep} {config_json}")

    def trial(self, result: TrialResult, sweep: str, config_json: str) -> None:
        self.calls.append("trial")
        self.heard.append(result)

    def finish(self) -> str | None:
        self.calls.append("finish")
        return "over there"


@dataclass
class Rig:
    """The parts of a sweep, to look at after it has run."""

    store: ParquetStore
    devices: Devices
    tracker: Listener
    progress: Watcher
    resume: Resume
    on_error: OnError
    outcome: Outcome | None = None

    def run(self, *jobs: Job) -> Rig:
        tracker = GuardedTracker(self.tracker, self.progress.note)
        parts = {"executor": self.devices, "store": self.store, "tracker": tracker, "progress": self.progress}
        sweep = Sweep(Measurer(**parts, resume=self.resume, on_error=self.on_error))
        self.outcome = sweep.run(jobs)
        return self


@pytest.fixture
def store(tmp_path: Path) -> ParquetStore:
    return ParquetStore(tmp_path)


@pytest.fixture(scope="session")
def answers() -> Callable[[Trial], npt.NDArray[np.bool_]]:
    def make(trial: Trial) -> npt.NDArray[np.bool_]:
        """Which examples a trial gets right: 4 of 10 untouched, 5 + ℓ of 10 where layer ℓ is edited."""
        size = trial.evaluation.limit or {"val": 10, "test": 40}[trial.evaluation.split]
        layer = -1 if trial.untouched else trial.edits[0].matrix.layer
        right = np.zeros(size, dtype=np.bool_)
        right[np.random.default_rng([layer + 1, size]).permutation(size)[: round(size * (5 + layer) / 10)]] = True
        return right

    return make


@pytest.fixture(scope="session")
def measure(
    answered: Callable[..., TrialResult], answers: Callable[[Trial], npt.NDArray[np.bool_]]
) -> Callable[[Trial], TrialResult]:
    return lambda trial: answered(trial, answers(trial))


@pytest.fixture(scope="session")
def simulated(answered: Callable[..., TrialResult]) -> Callable[..., Callable[[Trial], TrialResult]]:
    def make(effect: Callable[[Trial], tuple[float, float]], *jobs: Job) -> Callable[[Trial], TrialResult]:
        """Measures with what `effect` says of a trial: accuracy and log-loss on all of the split. An example is as hard
        for every trial, however many are asked: it is right where its place among them is below the accuracy."""
        tasks = {job.task.revision: job.task for job in jobs}

        def measure(trial: Trial) -> TrialResult:
            asked, task = trial.evaluation, tasks[trial.evaluation.revision]
            places = {example.id: place for place, example in enumerate(task.split(asked.split))}
            ids = [example.id for example in task.split(asked.split, asked.limit, asked.seed)]
            hard = (np.array([places[example] for example in ids]) + 0.5) / len(places)
            accuracy, log_loss = effect(trial)
            return answered(trial, hard < accuracy, log_loss=log_loss + hard - 0.5, ids=ids)

        return measure

    return make


@pytest.fixture
def rig(store: ParquetStore, measure: Callable[[Trial], TrialResult]) -> Callable[..., Rig]:
    def make(
        measure: Callable[[Trial], TrialResult] = measure,
        *,
        look: Callable[[Probe], ProbeResult] = lambda probe: ProbeResult(probe=probe, status="failed", error="blind"),
        order: Callable[[list[Work]], Sequence[Work]] = lambda works: works,
        tracker: Listener | None = None,
        resume: Resume = "auto",
        on_error: OnError = "continue",
    ) -> Rig:
        """Devices that answer at once and a real store."""
        return Rig(store, Devices(measure, look, order), tracker or Listener(), Watcher(), resume, on_error)

    return make


@pytest.fixture
def run(rig: Callable[..., Rig]) -> Callable[..., Rig]:
    """`run(*jobs, measure=…)` runs a sweep and returns its parts."""
    return lambda *jobs, **parts: rig(**parts).run(*jobs)


@pytest.fixture
def rows(store: ParquetStore) -> Callable[[], pd.DataFrame]:
    """The stored trials by key."""
    return lambda: pd.read_parquet(store.trials).set_index("trial_key")


@pytest.fixture
def assert_gains(
    rows: Callable[[], pd.DataFrame], answers: Callable[[Trial], npt.NDArray[np.bool_]]
) -> Callable[..., None]:
    def check(trials: Sequence[Trial], untouched: Trial) -> None:
        """Compares the stored gains with wins and losses counted example by example."""
        stored = rows()
        for trial in trials:
            pairs = list(zip(answers(trial), answers(untouched), strict=True))
            wins, losses = sum(e and not u for e, u in pairs), sum(u and not e for e, u in pairs)
            row = stored.loc[trial.key]
            assert row["gain"] == pytest.approx((wins - losses) / len(pairs), abs=1e-12)
            p_value = binomtest(int(wins), int(wins + losses)).pvalue if wins + losses else 1.0
            assert row["gain_p_value"] == pytest.approx(p_value)

    return check


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture(scope="session")
def demo_job() -> Callable[..., Job]:
    """The embedded model and data set; each is found and read once for all tests."""

    def make(
        tau: Sequence[str] = ("each",),
        layer: Sequence[LayerName] = ("each",),
        rho: Sequence[float] = (0.1,),
        search: SearchSpec = GRID,
        **evaluation: object,
    ) -> Job:
        question = Question(
            sweep="demo",
            model=ModelSpec(name="demo", path="package://demo/assets"),
            dataset=DatasetSpec(name="demo", format="prompt_answer", path="package://demo/assets/examples.parquet"),
            intervention=LASER,
            axes=Axes(tau=tuple(tau), layer=tuple(layer), rho=tuple(rho)),
            evaluation=EvaluationSpec(**{"limit": 50, "test_limit": 50, **evaluation}),
            seed=0,
            config_json="{}",
            search=search,
        )
        return build_jobs([question])[0]

    return make


@pytest.fixture(scope="session")
def workload() -> Callable[[Job], Workload]:
    def make(job: Job) -> Workload:
        from laser_sweep.engine.worker import Workload

        return Workload(checkpoint=job.checkpoint, task=job.task)

    return make
