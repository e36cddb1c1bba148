"""Trials whose answers a test chooses, in a real store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest, sem, ttest_rel

from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import (
    Edit,
    Episodes,
    Evaluation,
    Footprint,
    Matrix,
    Metrics,
    ModelId,
    Option,
    Predictions,
    Trial,
    TrialResult,
)

EXAMPLES = 100
Answers = npt.NDArray[np.bool_]


def right(number: int, examples: int = EXAMPLES) -> Answers:
    """The first so many of the examples answered right."""
    return np.arange(examples) < number


def trial(
    *edits: tuple[str, int, float],
    tau: str | None = None,
    all_layers: bool = False,
    options: Mapping[str, Option] | None = None,
    intervention: str = "laser",
    model: str = "tiny",
    revision: str = "0123abcd",
    dtype: str = "float32",
    dataset: str = "colours",
    content: str | None = None,
    split: str = "val",
    limit: int | None = None,
    seed: int | None = None,
) -> Trial:
    """Edits are (τ, ℓ, ρ); none is the untouched model. `content` stands for the examples, which no row names."""
    made = tuple(
        Edit(matrix=Matrix(name, layer), rho=rho, options=tuple(sorted((options or {}).items())))
        for name, layer, rho in edits
    )
    one = len(edits) == 1 or tau is not None
    return Trial(
        model=ModelId(name=model, repo=f"owner/{model}", revision=revision, dtype=dtype),
        edits=made,
        evaluation=Evaluation(dataset=dataset, revision=content or dataset, split=split, limit=limit, seed=seed),
        intervention=intervention if edits else "none",
        tau=(tau or edits[0][0]) if edits and one else None,
        layer=edits[0][1] if edits and one and not all_layers else None,
        rho=edits[0][2] if edits and one else None,
    )


def done(
    trial: Trial,
    correct: Answers,
    untouched: Answers | None = None,
    *,
    log_loss: float = 1.0,
    at: float = 0.0,
    frequency: Sequence[float | None] | None = None,
    **metrics: object,
) -> TrialResult:
    """A finished trial, `at` seconds after the others; its gain is over the answers of the untouched model."""
    n = len(correct)
    gain = p_value = None
    if untouched is not None:
        b, c = int((correct & ~untouched).sum()), int((untouched & ~correct).sum())
        gain, p_value = (b - c) / n, float(binomtest(b, b + c).pvalue) if b + c else 1.0
    accuracy = float(correct.mean())
    predictions = Predictions(
        example_id=tuple(map(str, range(n))),
        prediction=tuple("yes" if one else "no" for one in correct),
        gold=("yes",) * n,
        correct=correct,
        gold_log_prob=np.full(n, -log_loss),
        gold_length=np.ones(n, dtype=np.int64),
        gold_rank=np.zeros(n, dtype=np.int64),
        text_rank=np.zeros(n, dtype=np.int64),
        f1=np.full(n, np.nan),
        group=(None,) * n,
        subject=(None,) * n,
        relation=(None,) * n,
        frequency=tuple(frequency) if frequency is not None else (None,) * n,
    )
    stderr = float(np.sqrt(accuracy * (1 - accuracy) / n))
    figures = Metrics(num_examples=n, accuracy=accuracy, accuracy_stderr=stderr, log_loss=log_loss, **metrics)
    return _finished(trial, figures, predictions, gain, p_value, at)


def _finished(
    trial: Trial,
    metrics: Metrics,
    predictions: Predictions | Episodes,
    gain: float | None,
    p_value: float | None,
    at: float,
) -> TrialResult:
    return TrialResult(
        trial=trial,
        status="done",
        metrics=metrics,
        predictions=predictions,
        footprints=tuple(Footprint(rank=1, parameters=1000) for _ in trial.edits),
        gain=gain,
        gain_p_value=p_value,
        worker="host-1",
        device="cpu",
        started_at=1_700_000_000.0 + at,
        finished_at=1_700_000_001.0 + at,
    )


def failed(trial: Trial, error: str = "out of memory") -> TrialResult:
    return TrialResult(
        trial=trial, status="failed", error=error, started_at=1_700_000_000.0, finished_at=1_700_000_000.0
    )


def written(root: Path, results: Iterable[TrialResult], config_json: str = "{}") -> ParquetStore:
    """A store of these results."""
    store = ParquetStore(root)
    for result in results:
        store.write(result, "sweep", config_json)
    return store


def rows(root: Path, results: Iterable[TrialResult], config_json: str = "{}") -> pd.DataFrame:
    """The rows of these results as a reader sees them."""
    return read_trials(written(root, results, config_json).root)


def played(
    trial: Trial,
    returns: Sequence[float] | npt.NDArray[np.float64],
    untouched: Sequence[float] | None = None,
    *,
    errors: Sequence[float] | None = None,
    solved_at: float | None = None,
    at: float = 0.0,
) -> TrialResult:
    """A finished trial of episodes, `at` seconds after the others; its gain is over the returns of the untouched
    model."""
    got = np.asarray(returns, dtype=np.float64)
    n = len(got)
    gain = p_value = None
    if untouched is not None:
        gain, p_value = float(np.mean(got - untouched)), float(ttest_rel(got, untouched).pvalue)
        p_value = 1.0 if np.isnan(p_value) else p_value
    success = None if solved_at is None else got >= solved_at
    error = np.full(n, np.nan) if errors is None else np.asarray(errors, dtype=np.float64)
    metrics = Metrics(
        num_examples=n,
        mean_return=float(got.mean()),
        return_stderr=float(sem(got)),
        action_error=None if errors is None else float(error.mean()),
        success_rate=None if success is None else float(success.mean()),
    )
    episodes = Episodes(
        example_id=tuple(map(str, range(n))),
        target_return=-70.0,
        returns=got,
        lengths=np.arange(n) + 10,
        success=success,
        action_error=error,
    )
    return _finished(trial, metrics, episodes, gain, p_value, at)
