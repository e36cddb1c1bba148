"""Results to put into a store, and a store to put them into."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import (
    Edit,
    Evaluation,
    Footprint,
    Matrix,
    Metrics,
    ModelId,
    Predictions,
    Seconds,
    Trial,
    TrialResult,
)


@pytest.fixture
def store(tmp_path: Path) -> ParquetStore:
    return ParquetStore(tmp_path / "store")


@pytest.fixture(scope="session")
def make_trial() -> Callable[..., Trial]:
    def make(rho: float | None = 0.1, *, layer: int = 3, split: str = "val") -> Trial:
        """The trial that keeps rho of fc_in; `rho=None` is the untouched model."""
        edits = () if rho is None else (Edit(matrix=Matrix("fc_in", layer), rho=rho),)
        return Trial(
            model=ModelId(name="tiny", repo="owner/tiny", revision="0123abcd", dtype="float32"),
            edits=edits,
            evaluation=Evaluation(dataset="colours", revision="feedbeef", split=split),
            intervention="laser" if edits else "none",
            tau="fc_in" if edits else None,
            layer=layer if edits else None,
            rho=rho,
        )

    return make


@pytest.fixture(scope="session")
def make_result(make_trial: Callable[..., Trial]) -> Callable[..., TrialResult]:
    def make(
        rho: float | None = 0.1, *, trial: Trial | None = None, examples: int = 5, seed: int = 0, **changes: object
    ) -> TrialResult:
        """A finished trial with random answers; `changes` are fields of TrialResult."""
        trial = trial or make_trial(rho)
        random = np.random.default_rng(seed)
        correct = random.random(examples) < 0.5
        predictions = Predictions(
            example_id=tuple(str(i) for i in range(examples)),
            prediction=tuple(f"said {i}" for i in range(examples)),
            gold=tuple(f"gold {i}" for i in range(examples)),
            correct=correct,
            gold_log_prob=-random.random(examples),
            gold_length=random.integers(1, 5, examples),
            gold_rank=random.integers(0, 1000, examples),
            text_rank=random.integers(-1, 10, examples),
            f1=np.where(random.random(examples) < 0.5, np.nan, random.random(examples)),
            group=tuple(None if i % 3 == 0 else f"group {i}" for i in range(examples)),
            subject=tuple(None if i % 3 == 1 else f"subject {i}" for i in range(examples)),
            relation=tuple(None if i % 3 == 2 else f"relation {i}" for i in range(examples)),
            frequency=tuple(None if i % 2 else i / 7 for i in range(examples)),
        )
        values: dict[str, object] = {
            "trial": trial,
            "status": "done",
            "metrics": Metrics(
                num_examples=examples, accuracy=float(correct.mean()), accuracy_stderr=0.125, log_loss=0.75
            ),
            "predictions": predictions,
            "footprints": tuple(Footprint(rank=17, parameters=4321) for _ in trial.edits),
            "worker": "host-1",
            "device": "cpu",
            "seconds": Seconds(factor=0.5, edit=0.25, eval=2.0),
            "started_at": 1_700_000_000.0,
            "finished_at": 1_700_000_002.75,
        }
        return TrialResult(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def answered(make_trial: Callable[..., Trial], make_result: Callable[..., TrialResult]) -> Callable[..., TrialResult]:
    def make(
        rho: float | None,
        right: Sequence[bool],
        untouched: Sequence[bool] | None = None,
        *,
        layer: int = 3,
        split: str = "val",
        limit: int | None = None,
        log_loss: float = 1.0,
        first_id: int = 0,
        said: Sequence[str] | None = None,
    ) -> TrialResult:
        """A trial that gets these examples right, with its gain over an untouched model that gets those right."""
        trial = make_trial(rho, layer=layer, split=split)
        trial = replace(trial, evaluation=replace(trial.evaluation, limit=limit, seed=None if limit is None else 0))
        blank = make_result(trial=trial, examples=len(right)).predictions
        assert blank is not None
        predictions = replace(
            blank,
            correct=np.array(right, dtype=np.bool_),
            example_id=tuple(str(first_id + place) for place in range(len(right))),
            gold=tuple(f"gold {first_id + place}" for place in range(len(right))),
            prediction=tuple(said or ["yes" if one else "no" for one in right]),
        )
        accuracy, base = sum(right) / len(right), right if untouched is None else untouched
        wins = sum(one and not other for one, other in zip(right, base, strict=True))
        losses = sum(other and not one for one, other in zip(right, base, strict=True))
        metrics = Metrics(
            num_examples=len(right),
            accuracy=accuracy,
            accuracy_stderr=(accuracy * (1 - accuracy) / len(right)) ** 0.5,
            log_loss=log_loss,
        )
        p_value = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        return make_result(
            trial=trial,
            metrics=metrics,
            predictions=predictions,
            gain=(wins - losses) / len(right),
            gain_p_value=p_value,
        )

    return make


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m laser_sweep.store`, in this process, in an empty directory."""
    from laser_sweep.store.__main__ import main

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["laser_sweep.store", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(list(map(str, arguments)), code, out, err)

    return run


@pytest.fixture(scope="session")
def make_failed(make_trial: Callable[..., Trial]) -> Callable[..., TrialResult]:
    def make(rho: float | None = 0.1, *, trial: Trial | None = None, error: str = "it broke") -> TrialResult:
        return TrialResult(trial=trial or make_trial(rho), status="failed", error=error)

    return make


@pytest.fixture(scope="session")
def trials_of_every_first_digit(make_trial: Callable[..., Trial]) -> list[Trial]:
    """16 trials whose keys, and so file names, begin with 0, 1, … f: file order must not matter to any reader."""
    by_digit: dict[str, Trial] = {}
    rho = 0.0
    while len(by_digit) < 16:
        rho += 0.001
        trial = make_trial(rho)
        by_digit.setdefault(trial.key[0], trial)
    return [by_digit[digit] for digit in sorted(by_digit)]
