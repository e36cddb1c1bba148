"""What comes back from a store is what went in."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import (
    TAUS,
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

fractions = st.floats(0, 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
footprints = st.builds(
    Footprint,
    rank=st.none() | st.integers(0, 2**31 - 1),
    parameters=st.none() | st.integers(0, 2**40),
    row_clusters=st.none()
    | st.lists(st.integers(0, 2**16 - 1), min_size=1).map(lambda blocks: np.array(blocks, dtype=np.uint16)),
)
edits = st.builds(
    Edit,
    matrix=st.builds(Matrix, st.sampled_from(TAUS), st.integers(0, 200)),
    rho=fractions,
    method=st.sampled_from(["laser", "randomized", "prune", "zero"]),
    options=st.dictionaries(st.text(), st.booleans() | st.integers() | fractions | st.text(), max_size=3).map(
        lambda options: tuple(sorted(options.items()))
    ),
)
trials = st.builds(
    Trial,
    model=st.builds(ModelId, name=st.text(), repo=st.text(), revision=st.text(), dtype=st.text()),
    edits=st.lists(edits, max_size=3).map(tuple),
    evaluation=st.builds(
        Evaluation,
        dataset=st.text(),
        revision=st.text(),
        split=st.sampled_from(["val", "test"]),
        limit=st.none() | st.integers(1, 10**6),
        seed=st.none() | st.integers(0, 10**6),
    ),
    intervention=st.text(),
    tau=st.none() | st.text(),
    layer=st.none() | st.integers(0, 200),
    rho=st.none() | fractions,
)
metrics = st.builds(
    Metrics,
    num_examples=st.integers(1, 10**9),
    accuracy=fractions,
    accuracy_stderr=fractions,
    log_loss=finite,
    majority_accuracy=st.none() | fractions,
    balanced_accuracy=st.none() | fractions,
    num_skipped=st.integers(0, 2**40),
    top1_accuracy=st.none() | fractions,
    top5_accuracy=st.none() | fractions,
    top10_accuracy=st.none() | fractions,
    f1=st.none() | fractions,
    group_accuracy=st.none() | fractions,
    prediction_counts=st.none()
    | st.lists(st.tuples(st.text(), st.integers(0, 2**40)), unique_by=lambda count: count[0]).map(tuple),
)
times = st.floats(0, 4e9)


@st.composite
def results(draw: st.DrawFn) -> TrialResult:
    trial = draw(trials)
    done = draw(st.booleans())
    return TrialResult(
        trial=trial,
        status="done" if done else "failed",
        error=None if done else draw(st.text()),
        metrics=draw(metrics) if done else None,
        footprints=tuple(draw(footprints) for _ in trial.edits),
        gain=draw(st.none() | st.floats(-1, 1)),
        gain_p_value=draw(st.none() | fractions),
        attempt=draw(st.integers(1, 100)),
        worker=draw(st.text()),
        device=draw(st.text()),
        seconds=Seconds(factor=draw(times), edit=draw(times), eval=draw(times)),
        started_at=draw(times),
        finished_at=draw(times),
    )


@given(result=results(), sweep=st.text(), config=st.text())
@settings(max_examples=40, deadline=None)
def test_a_result_comes_back_as_it_was_stored(result: TrialResult, sweep: str, config: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        store = ParquetStore(root)
        store.write(result, sweep, config)
        back = store.find([result.trial])[result.trial.key]
    assert back.trial == result.trial
    for name in ("status", "error", "metrics", "footprints", "gain", "gain_p_value", "attempt", "worker", "device"):
        assert getattr(back, name) == getattr(result, name), name
    assert back.seconds == result.seconds
    assert back.started_at == pytest.approx(result.started_at, abs=0.001)
    assert back.finished_at == pytest.approx(result.finished_at, abs=0.001)


answers = st.lists(
    st.tuples(st.booleans(), finite, st.integers(0, 2**40), st.text(), st.none() | st.text(), st.none() | finite),
    min_size=1,
    max_size=20,
)


@given(rows=answers)
@settings(max_examples=30, deadline=None)
def test_answers_come_back_as_they_were_stored(rows: list[tuple[bool, float, int, str, str | None, float]]) -> None:
    correct, log_probs, gold_ranks, texts, groups, frequencies = zip(*rows, strict=True)
    trial = Trial(
        model=ModelId(name="m", repo="r", revision="v", dtype="float32"),
        edits=(),
        evaluation=Evaluation(dataset="d", revision="w", split="test"),
    )
    result = TrialResult(
        trial=trial,
        status="done",
        metrics=Metrics(num_examples=len(rows), accuracy=0.5, accuracy_stderr=0.1, log_loss=1.0),
        predictions=Predictions(
            example_id=tuple(map(str, range(len(rows)))),
            prediction=texts,
            gold=texts,
            correct=np.array(correct),
            gold_log_prob=np.array(log_probs),
            gold_length=np.array(gold_ranks) % 7 + 1,
            gold_rank=np.array(gold_ranks),
            text_rank=np.array(gold_ranks) % 11 - 1,
            f1=np.where(correct, np.nan, np.array(gold_ranks) % 5 / 4),
            group=groups,
            subject=groups,
            relation=texts,
            frequency=frequencies,
        ),
    )
    with tempfile.TemporaryDirectory() as root:
        store = ParquetStore(root)
        store.write(result, "sweep", "{}")
        back = store.scores(trial.key)
        table = pq.read_table(store.predictions).to_pydict()
    assert table["gold_length"] == [rank % 7 + 1 for rank in gold_ranks]
    assert table["text_rank"] == [None if rank % 11 == 0 else rank % 11 - 1 for rank in gold_ranks]
    assert table["f1"] == [None if right else rank % 5 / 4 for right, rank in zip(correct, gold_ranks, strict=True)]
    assert table["subject"] == list(groups)
    assert table["relation"] == list(texts)
    assert back is not None
    assert back.scores.dtype == np.bool_
    assert back.scores.tolist() == list(correct)


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


def test_a_row_keeps_the_time_of_day_in_utc_wherever_the_machine_stands(store: ParquetStore, in_new_york: None) -> None:
    """1970-01-02 00:00:01.5 is 86401.5 seconds after the epoch."""
    trial = Trial(
        model=ModelId(name="m", repo="r", revision="v", dtype="float32"),
        edits=(),
        evaluation=Evaluation(dataset="d", revision="w", split="test"),
    )
    store.write(TrialResult(trial=trial, status="failed", error="e", started_at=86401.5), "sweep", "{}")
    assert store.find([trial])[trial.key].started_at == 86401.5
    started = pd.Timestamp("1970-01-02 00:00:01.500", tz="UTC")
    assert pd.read_parquet(store.trials)["started_at"].tolist() == [started]
    assert read_trials(store.root)["started_at"].tolist() == [started]
