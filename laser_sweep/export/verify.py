"""Loads an export and asks it what the trial was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import laser_sweep.export.quantizer  # noqa: F401 - from_pretrained then knows factored checkpoints
from laser_sweep.engine.models.checkpoint import Checkpoint, read_settings
from laser_sweep.engine.models.layout import Layout, find_blocks
from laser_sweep.engine.models.load import load_model, load_tokenizer
from laser_sweep.engine.tasks.example import AskedModel
from laser_sweep.engine.tasks.registry import AnyTask, check_family, load_task
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.engine.worker import Worker, Workload
from laser_sweep.errors import RequestError
from laser_sweep.export.chosen import Chosen
from laser_sweep.export.factored import FactoredLinear
from laser_sweep.measures import ANSWERS, EPISODES, Measures
from laser_sweep.store.reader import read_predictions
from laser_sweep.store.stored import read_config, stored_trial
from laser_sweep.trial import Episodes, Evaluation, Predictions, Trial

_TOLERANCE = {"float64": 1e-9, "float32": 1e-5, "bfloat16": 0.5, "float16": 0.1}
"""How far log p of an answer may be from the stored one, in nats, by the dtype of the model, on the same device.

In single and double precision that is for each edited matrix. In half precision the entries of an edited matrix are
rounded, and those of its factors otherwise.
"""
_ELSEWHERE = 100  # times as much on another device, whose kernels add up in another order
_EXACT = ("float32", "float64")
_OPTIONS = ("batch_tokens", "activation_budget_gb", "host_budget_gb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """An export beside the trial on one split: scores, the largest difference of log p, or of the action error of
    episodes, and how many answers, or returns, differ.

    `exact` says that there is no rounding by which answers could differ that are as good as tied.
    """

    split: str
    measures: Measures
    num_examples: int
    score: float
    stored_score: float
    stored_stderr: float
    difference: float
    tolerance: float
    num_changed: int
    exact: bool

    @property
    def failure(self) -> str | None:
        """Why the export is not what the trial measured; None where it is."""
        if not self.difference <= self.tolerance:
            return (
                f"{self.compared} differs by {self.difference:.2g}{self.unit}, and {self.tolerance:.2g} is allowed, "
                "which --tolerance changes"
            )
        if abs(self.score - self.stored_score) > (0 if self.exact else self.stored_stderr):
            return f"{self.measures.score.name} is {self.score:.6f}, and {self.stored_score:.6f} was stored"
        return None

    @property
    def compared(self) -> str:
        """What `difference` is one of."""
        return "log p" if self.measures is ANSWERS else self.measures.loss.name

    @property
    def unit(self) -> str:
        return self.measures.loss.unit

    @property
    def changed(self) -> str:
        """`every answer the same`, `2 returns changed`."""
        what = "answer" if self.measures is ANSWERS else "return"
        if not self.num_changed:
            return f"every {what} the same"
        return f"{self.num_changed:,} {what}{'' if self.num_changed == 1 else 's'} changed"


@dataclass(slots=True)
class Resident:
    """What a loaded model holds in memory, in bytes: all of it, and the factors of edited matrices."""

    model: int = 0
    factors: int = 0


@dataclass(slots=True)
class Verification:
    """What came of loading an export."""

    checks: list[Check] = field(default_factory=list)
    resident: Resident = field(default_factory=Resident)


def verify(chosen: Chosen, base: Checkpoint, directory: Path, tolerance: float | None = None) -> Verification:
    """Scores the exported model on the examples of the trial, and of the same edits on the other split where stored.

    `tolerance` is how far log p may be from the stored one, in nats; without it, what rounding explains.
    Raises RequestError where the examples or their stored answers cannot be had.
    """
    found = Verification()
    exported = replace(
        base,
        directory=directory,
        identity=replace(base.identity, repo="", revision="export"),
        spec=replace(base.spec, path=str(directory)),
    )

    def opened(checkpoint: Checkpoint, device: torch.device) -> tuple[PreTrainedModel, Layout]:
        model = load_model(checkpoint, device)
        found.resident = _resident(model)
        return model, Layout(tuple(find_blocks(model)), {})  # nothing is edited: blocks are enough for whole passes

    asked = [_asked(one.edited.row, base) for one in chosen.measured]
    evaluation = chosen.config.get("evaluation") or {}
    options = {name: evaluation[name] for name in _OPTIONS if name in evaluation}
    workloads = {task.revision: Workload(checkpoint=exported, task=task, **options) for task, _ in asked}
    worker = Worker(list(workloads.values()), opened=opened)
    for one, (_, examples) in zip(chosen.measured, asked, strict=True):
        (result,) = worker.run([Trial(model=exported.identity, edits=(), evaluation=examples)])
        if result.metrics is None or result.predictions is None:
            raise RequestError(f"the export cannot be asked: {result.error}")
        row = one.edited.row
        stored = read_predictions(chosen.store, row["trial_key"])
        if list(stored["example_id"]) != list(result.predictions.example_id):
            raise RequestError(
                f"--store {chosen.store} has no answers of trial {row['trial_key']} to the same examples to compare "
                "with; run its sweep again with resume=never"
            )
        same_device, measures = row["device"] == result.device, result.metrics.measures
        difference, num_changed = _compared(result.predictions, stored)
        # The actions of an episode lead to its next states, so that rounding once may lead anywhere.
        rounds = base.identity.dtype not in _EXACT or measures is EPISODES
        found.checks.append(
            Check(
                split=one.split,
                measures=measures,
                num_examples=result.metrics.num_examples,
                score=result.metrics.score,
                stored_score=row[measures.score.column],
                stored_stderr=row[measures.score.stderr] or 0.0,  # one episode has none
                difference=difference,
                tolerance=_rounding(chosen, same_device) if tolerance is None else tolerance,
                num_changed=num_changed,
                exact=same_device and not (found.resident.factors and rounds),
            )
        )
    return found


def _compared(now: Predictions | Episodes, stored: pd.DataFrame) -> tuple[float, int]:
    """The largest difference from what is stored, and how many answers or returns differ."""
    if isinstance(now, Episodes):
        recorded = ~np.isnan(now.action_error)  # the others have no action error then and now
        errors = (now.action_error - stored["action_error"].to_numpy(dtype=float))[recorded]
        return _largest(errors), int((now.returns != stored["episode_return"].to_numpy()).sum())
    changed = np.array(now.prediction) != stored["prediction"].to_numpy()
    return _largest(now.gold_log_prob - stored["gold_log_prob"].to_numpy()), int(changed.sum())


def _rounding(chosen: Chosen, same_device: bool) -> float:
    """How far log p may be from the stored one, in nats."""
    dtype = chosen.trial.model.dtype
    times = len(chosen.trial.edits) if dtype in _EXACT else 1
    return _TOLERANCE[dtype] * times * (1 if same_device else _ELSEWHERE)


def _largest(differences: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Their largest absolute value; nan where one is."""
    return float(np.abs(differences).max(initial=0.0))


def _resident(model: PreTrainedModel) -> Resident:
    tensors = {id(one): one for one in (*model.parameters(), *model.buffers())}
    maps = [module for module in model.modules() if isinstance(module, FactoredLinear)]
    return Resident(
        model=sum(tensor.nbytes for tensor in tensors.values()), factors=sum(one.factor_bytes for one in maps)
    )


def _asked(row: Mapping[str, Any], base: Checkpoint) -> tuple[AnyTask, Evaluation]:
    """The data set of a stored trial, and which of its examples were asked: those that lead to the key of the trial."""
    trial = stored_trial(row)
    model = AskedModel(base.family, partial(_tokenizer, base), partial(read_settings, base))
    for spec in _datasets(row):
        check_family(spec, base.family, base.spec.name)
        task = load_task(spec, model)
        evaluation = replace(trial.evaluation, revision=task.revision)
        if Trial(model=base.identity, edits=trial.edits, evaluation=evaluation).key == trial.key:
            return task, evaluation
    raise RequestError(
        f"trial {trial.key} cannot be asked again: its data set {trial.evaluation.dataset} or the way of scoring has "
        "changed; export without --verify, or run the sweep again"
    )


@cache
def _tokenizer(base: Checkpoint) -> PreTrainedTokenizerBase:
    return load_tokenizer(base)


def _datasets(row: Mapping[str, Any]) -> Iterator[DatasetSpec]:
    """What the configuration calls by the name of the trial's data set; a guard has another than the sweep."""
    config = read_config(row["config_json"])
    groups: Sequence[Any] = (config.get("dataset"), (config.get("guard") or {}).get("dataset"))
    for group in groups:
        if isinstance(group, Mapping) and group.get("name") == row["dataset"]:
            try:
                yield TypeAdapter(DatasetSpec).validate_python(group)
            except ValidationError as error:
                raise RequestError(
                    f"the configuration of trial {row['trial_key']} has another data set than this laser_sweep reads: "
                    f"{error.errors()[0]['msg']}"
                ) from None
