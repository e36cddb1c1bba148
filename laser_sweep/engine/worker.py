"""One model on one device: runs trials and probes, one after the other."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from laser_sweep.engine.editing.cache import open_cache
from laser_sweep.engine.editing.editor import Editor, RestoreError
from laser_sweep.engine.editing.spec import CacheSpec
from laser_sweep.engine.evaluation.asked import Asked, Asker, Budget
from laser_sweep.engine.evaluation.directions import Directions
from laser_sweep.engine.evaluation.language import LanguageModel
from laser_sweep.engine.evaluation.rollouts import DecisionModel
from laser_sweep.engine.models.checkpoint import Checkpoint
from laser_sweep.engine.models.layout import Layout, find_layout
from laser_sweep.engine.models.load import load_model
from laser_sweep.engine.spectra import spectra
from laser_sweep.engine.tasks.registry import AnyTask
from laser_sweep.errors import RequestError
from laser_sweep.probe import Probe, ProbeResult, Slopes
from laser_sweep.trial import GROUPS, Evaluation, Matrix, ModelId, Seconds, Trial, TrialResult

_Result = TypeVar("_Result", TrialResult, ProbeResult)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A model and a data set that trials may ask for; `batch_tokens` bounds a batch, padding counted.

    What the untouched model computes below an edit is kept on the device up to `activation_budget_gb`, and on a GPU's
    host up to `host_budget_gb` more.
    """

    checkpoint: Checkpoint
    task: AnyTask
    batch_tokens: int = 8192
    activation_budget_gb: float = 4.0
    host_budget_gb: float = 16.0

    @property
    def budget(self) -> Budget:
        return Budget(
            batch_tokens=self.batch_tokens,
            device_bytes=int(self.activation_budget_gb * 2**30),
            host_bytes=int(self.host_budget_gb * 2**30),
        )

    def halved(self) -> Workload:
        """The same with half the memory for what is computed at once and for what is kept."""
        return replace(
            self,
            batch_tokens=max(1, self.batch_tokens // 2),
            activation_budget_gb=self.activation_budget_gb / 2,
            host_budget_gb=self.host_budget_gb / 2,
        )


class WorkerLost(Exception):
    """A worker that cannot be given more work: a weight did not come back after an edit, or its device is out of memory
    or out of order. A fresh one may do what it could not."""

    def __init__(self, reason: str, out_of_memory: bool = False) -> None:
        super().__init__(reason, out_of_memory)  # all of them, so that it can travel between processes
        self.reason = reason
        self.out_of_memory = out_of_memory


@dataclass(frozen=True, slots=True)
class _Loaded:
    layout: Layout
    editor: Editor
    asker: Asker[Any]  # of the tasks of its family: `check_family` has seen to that
    asked: dict[Evaluation, Asked]


def open_model(checkpoint: Checkpoint, device: torch.device) -> tuple[PreTrainedModel, Layout]:
    """A model and its matrices."""
    model = load_model(checkpoint, device)
    return model, find_layout(model, checkpoint.spec.roles)


class Worker:
    """Runs trials and probes of its workloads. A model is loaded when one first asks for it and kept until another is.

    `opened` loads a model whose matrices are found in another way.

    >>> worker = Worker([Workload(checkpoint=find_checkpoint(model), task=load_task(dataset))])
    >>> for result in worker.run(trials): ...
    """

    def __init__(
        self,
        workloads: Sequence[Workload],
        *,
        device: str | None = None,
        cache: CacheSpec | None = None,
        opened: Callable[[Checkpoint, torch.device], tuple[PreTrainedModel, Layout]] = open_model,
    ) -> None:
        self._opened = opened
        self._workloads = {(load.checkpoint.identity, load.task.revision): load for load in workloads}
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._cache = None if cache is None else open_cache(cache)
        self._loaded: _Loaded | None = None
        self._loaded_id: ModelId | None = None
        self._seconds_load = 0.0
        self.name = f"{socket.gethostname()}-{os.getpid()}"

    def run(self, trials: Iterable[Trial]) -> Iterator[TrialResult]:
        """Yields one result for each trial. One that cannot be computed is `failed` with its reason; the rest go on.

        Raises RequestError where the model or the data set itself cannot be used.
        """
        for trial in trials:
            try:
                yield self._run(trial)
            except WorkerLost as lost:
                self._loaded = self._loaded_id = None  # the next trial loads the model again
                yield TrialResult(trial=trial, status="failed", error=lost.reason, worker=self.name)

    def carry_out(self, work: Trial | Probe) -> TrialResult | ProbeResult:
        """The result of a trial, as `run` has it, or of a probe; what cannot be computed is `failed`.

        Raises WorkerLost where this worker must not be given more work, and RequestError as `run`.
        """
        if isinstance(work, Trial):
            return self._run(work)
        return self._recorded(
            lambda: self._look(work), lambda reason: ProbeResult(probe=work, status="failed", error=reason)
        )

    def _run(self, trial: Trial) -> TrialResult:
        result = self._recorded(
            lambda: self._measure(trial), lambda reason: TrialResult(trial=trial, status="failed", error=reason)
        )
        seconds = replace(result.seconds, load=self._seconds_load)
        self._seconds_load = 0.0
        return replace(result, seconds=seconds)

    def _recorded(self, compute: Callable[[], _Result], failed: Callable[[str], _Result]) -> _Result:
        """What is computed, or else what has failed for which reason; with who did it, where and when."""
        started_at = time.time()
        try:
            result = compute()
        except RequestError:
            raise
        except RestoreError as error:
            raise WorkerLost(str(error)) from error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if _out_of_memory(error) or "CUDA error" in reason:  # after which a process can do nothing on its device
                raise WorkerLost(reason, _out_of_memory(error)) from error
            result = failed(reason)
        return replace(
            result,
            worker=self.name,
            device=self._device_name(),
            started_at=started_at,
            finished_at=time.time(),
        )

    def _measure(self, trial: Trial) -> TrialResult:
        workload = self._workloads[trial.model, trial.evaluation.revision]
        loaded = self._load(workload.checkpoint)
        loaded.editor.check(trial.edits)
        asked = self._asked(loaded, workload, trial.evaluation)
        for other in loaded.asked.values():
            if other is not asked or not trial.edits:
                other.release()
        started = time.perf_counter()
        lowest = min((edit.matrix.layer for edit in trial.edits), default=None)
        if lowest is not None:
            with _precision(exact=trial.evaluation.exact):
                asked.prepare(lowest)
        seconds_eval = time.perf_counter() - started
        with loaded.editor.applied(trial.edits) as applied:
            started = time.perf_counter()
            with _precision(exact=trial.evaluation.exact):
                metrics, predictions = asked.measure(keep_attention=not _edits_attention(trial, lowest))
            seconds_eval += time.perf_counter() - started
        return TrialResult(
            trial=trial,
            status="done",
            metrics=metrics,
            predictions=predictions,
            footprints=applied.footprints,
            seconds=Seconds(factor=applied.seconds_factor, edit=applied.seconds_edit, eval=seconds_eval),
        )

    def _look(self, probe: Probe) -> ProbeResult:
        workload = self._workload(probe)
        loaded = self._load(workload.checkpoint)
        for asked in loaded.asked.values():
            asked.release()
        evaluation = probe.evaluation

        def slopes_along(directions: Mapping[Matrix, Directions]) -> Mapping[Matrix, Slopes]:
            if evaluation is None:
                return {}
            with _precision(exact=True):  # a small singular value would magnify what is lost in TF32
                return loaded.asker.slopes(workload.task, evaluation, directions, workload.budget)

        max_bytes = int(workload.activation_budget_gb * 2**30)
        found = spectra(probe.matrices, loaded.layout, loaded.editor, slopes_along, max_bytes=max_bytes)
        return ProbeResult(probe=probe, status="done", spectra=found)

    def _workload(self, probe: Probe) -> Workload:
        """That of its examples; without any, one of its model."""
        if probe.evaluation is not None:
            return self._workloads[probe.model, probe.evaluation.revision]
        return next(load for load in self._workloads.values() if load.checkpoint.identity == probe.model)

    def _load(self, checkpoint: Checkpoint) -> _Loaded:
        if self._loaded is None or self._loaded_id != checkpoint.identity:
            self._loaded = None  # frees the old model before the new one needs the room
            started = time.perf_counter()
            model, layout = self._opened(checkpoint, self._device)
            editor = Editor(layout, cache=self._cache)
            self._loaded = _Loaded(layout, editor, _asker(model, layout, checkpoint), {})
            self._loaded_id = checkpoint.identity
            self._seconds_load = time.perf_counter() - started
        return self._loaded

    def _asked(self, loaded: _Loaded, workload: Workload, evaluation: Evaluation) -> Asked:
        """The examples of an evaluation, made ready once for each model."""
        if evaluation not in loaded.asked:
            loaded.asked[evaluation] = loaded.asker.asked(workload.task, evaluation, workload.budget)
        return loaded.asked[evaluation]

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else str(self._device)


def _out_of_memory(error: Exception) -> bool:
    """Whether a device had no room, or the host, for which torch has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def _precision(*, exact: bool) -> Iterator[None]:
    """Inside, products of float32 matrices on a GPU are computed in TF32 unless they are to be exact."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = not exact
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _edits_attention(trial: Trial, layer: int | None) -> bool:
    """Whether an edit of this layer is one of its attention."""
    return any(e.matrix.layer == layer and e.matrix.tau.partition(".")[0] in GROUPS["attn"] for e in trial.edits)


def _asker(model: PreTrainedModel, layout: Layout, checkpoint: Checkpoint) -> Asker[Any]:
    if checkpoint.family == "decision_transformer":
        return DecisionModel(model)
    return LanguageModel(model, layout, checkpoint)
