"""Storing trial results and reading them again, against pickles written as the published code writes them.

A stored result is one row of figures and one row for each example, durably on disk before the call returns; a published
one is two pickles, of which nothing says that they reach the disk. Read back is the accuracy of every trial, out of the
rows of the examples: by DuckDB from the merged files of the store, and out of a sample of the pickles.
"""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from rich.table import Table

from benchmarks.command import Figures, run, show
from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Edit, Evaluation, Footprint, Matrix, Metrics, ModelId, Predictions, Trial, TrialResult

MODEL = ModelId(name="llama2", repo="meta-llama/Llama-2-7b-hf", revision="0" * 40, dtype="float32")
EVALUATION = Evaluation(dataset="fever", revision="0" * 16, split="val")
LAYERS = 32
READS = 5


@dataclass(frozen=True)
class Size:
    trials: int
    examples: int
    pickled: int


FULL = Size(trials=10_000, examples=2_600, pickled=200)
SMALL = Size(trials=20, examples=50, pickled=10)


def measure(size: Size) -> Figures:
    """Writes both ways, merges the store, reads both ways."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        store = ParquetStore(root / "store")
        write_seconds = 0.0
        for result in results(size):
            started = time.perf_counter()
            store.write(result, "benchmark", "{}")
            write_seconds += time.perf_counter() - started
        stored_bytes = sum(file.stat().st_size for file in store.root.rglob("*.parquet"))

        started = time.perf_counter()
        assert store.compact() == size.trials
        compact_seconds = time.perf_counter() - started
        trials_seconds, trials = timed(lambda: read_trials(store.root))
        aggregate_seconds, accuracies = timed(lambda: aggregate(store))
        assert accuracies == dict(zip(trials.trial_key, trials.accuracy, strict=True))

        pickles = root / "pickles"
        pickles.mkdir()
        pickle_seconds = 0.0
        for number, result in zip(range(size.pickled), results(size), strict=False):
            started = time.perf_counter()
            write_pickles(result, pickles, number)
            pickle_seconds += time.perf_counter() - started
        pickled_bytes = sum(file.stat().st_size for file in pickles.iterdir())
        started = time.perf_counter()
        unpickled = read_pickles(pickles)
        unpickle_seconds = time.perf_counter() - started
        assert unpickled == {key: accuracies[key] for key in unpickled}

    rate, pickle_rate = size.trials / write_seconds, size.pickled / pickle_seconds
    scaled_seconds = unpickle_seconds / size.pickled * size.trials
    table = Table("", "store", "pickles")
    table.add_row("trials written a second", f"{rate:.0f}", f"{pickle_rate:.0f}")
    table.add_row("kB a trial", f"{stored_bytes / size.trials / 1e3:.0f}", f"{pickled_bytes / size.pickled / 1e3:.0f}")
    table.add_row("s to merge the files", f"{compact_seconds:.1f}", "")
    table.add_row("s to read the figures of all trials", f"{trials_seconds:.2f}", "")
    table.add_row(
        "s for the accuracy of all trials from all examples",
        f"{aggregate_seconds:.2f}",
        f"{scaled_seconds:.1f} (scaled)",
    )
    show(
        f"{size.trials:,} trials of {size.examples:,} examples; {size.pickled} of them as pickles, without fsync. "
        f"Reads are the best of {READS}.",
        table,
    )
    return {
        "written_per_second": rate,
        "pickles_per_second": pickle_rate,
        "compact_seconds": compact_seconds,
        "trials_read_seconds": trials_seconds,
        "aggregate_seconds": aggregate_seconds,
        "pickles_read_seconds": scaled_seconds,
    }


def results(size: Size) -> Iterator[TrialResult]:
    """Results of true-or-false questions, the same in each call."""
    draw = np.random.default_rng(0)
    golds = tuple(draw.choice(["true", "false"], size.examples).tolist())
    names = tuple(map(str, range(size.examples)))
    nothing = (None,) * size.examples
    for number in range(size.trials):
        edit = Edit(matrix=Matrix("fc_in", number % LAYERS), rho=(number // LAYERS + 1) / size.trials)
        trial = Trial(model=MODEL, edits=(edit,), evaluation=EVALUATION, intervention="laser", tau="fc_in")
        correct = draw.random(size.examples) < 0.6
        log_probs = -draw.exponential(size=size.examples)
        wrong = {"true": "false", "false": "true"}
        ranks = draw.geometric(0.3, size.examples) - 1
        yield TrialResult(
            trial=trial,
            status="done",
            metrics=Metrics(
                num_examples=size.examples,
                accuracy=float(correct.mean()),
                accuracy_stderr=0.01,
                log_loss=float(-log_probs.mean()),
            ),
            predictions=Predictions(
                example_id=names,
                prediction=tuple(g if right else wrong[g] for g, right in zip(golds, correct, strict=True)),
                gold=golds,
                correct=correct,
                gold_log_prob=log_probs,
                gold_length=np.ones(size.examples, dtype=np.int64),
                gold_rank=ranks,
                text_rank=np.where(ranks < 10, ranks, -1),
                f1=np.full(size.examples, np.nan),
                group=nothing,
                subject=nothing,
                relation=nothing,
                frequency=nothing,
            ),
            footprints=(Footprint(rank=40, parameters=200_000),),
        )


def timed(read):  # type: ignore[no-untyped-def]
    """The fewest seconds of several readings, and what was read."""
    seconds = []
    for _ in range(READS):
        started = time.perf_counter()
        found = read()
        seconds.append(time.perf_counter() - started)
    return min(seconds), found


def aggregate(store: ParquetStore) -> dict[str, float]:
    """The accuracy of every trial, counted over its examples."""
    query = f"select trial_key, avg(correct::int) from '{store.predictions}/*.parquet' group by trial_key"
    with duckdb.connect() as connection:
        return dict(connection.sql(query).fetchall())


def write_pickles(result: TrialResult, directory: Path, number: int) -> None:
    """A list with a dictionary for each example, and a summary, as the published scripts dump them after a trial."""
    predictions = result.predictions
    assert predictions is not None
    rows = [
        {
            "ix": place,
            "question": f"Consider the following claim: {name}. Is this claim true or false. The claim is",
            "gold-answer": gold,
            "generation": said,
            "correct": bool(right),
            "f1_score": None,
            "precision": None,
            "recall": None,
            "case-sensitive": False,
            "white-space-strip": True,
            "total_logprob": float(log_prob),
            "answer_logprob": float(log_prob),
            "answer_length": 1,
            "question_answer_length": 30,
        }
        for place, (name, gold, said, right, log_prob) in enumerate(
            zip(
                predictions.example_id,
                predictions.gold,
                predictions.prediction,
                predictions.correct,
                predictions.gold_log_prob,
                strict=True,
            )
        )
    ]
    summary = {"key": result.trial.key, "0-1 correctness": 100 * result.measured().accuracy, "dataset_size": len(rows)}
    (directory / f"predictions-{number}.p").write_bytes(pickle.dumps(rows))
    (directory / f"result-summary-{number}.pkl").write_bytes(pickle.dumps(summary))


def read_pickles(directory: Path) -> dict[str, float]:
    """The accuracy of every trial, counted over its examples."""
    found = {}
    for file in directory.glob("predictions-*.p"):
        rows = pickle.loads(file.read_bytes())
        summary = pickle.loads((directory / f"result-summary-{file.stem.partition('-')[2]}.pkl").read_bytes())
        found[summary["key"]] = sum(row["correct"] for row in rows) / len(rows)
    return found


if __name__ == "__main__":
    run(measure, full=FULL, small=SMALL, description=__doc__)
