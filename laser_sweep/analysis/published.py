"""What was published of LASER and of fast searches, to hold what is measured here against it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSearch:
    """What a search found with a model on a data set, and what it took.

    `method` is the name of its bundle in conf/experiment, or `clustering_full_search`, which has no speedup. `accuracy`
    is that of its winner on test, in percent. `speedup` says how many times faster it was than the exhaustive search of
    LASER, in the authors' own code on their own machine.
    """

    model: str
    dataset: str
    method: str
    accuracy: float
    speedup: float | None


def published_fast_search() -> list[PublishedSearch]:
    """The tables of the slides "Efficient LLM Adaptation", by authors of "Compress to Impress" (arXiv 2510.20800)."""
    with (files("laser_sweep.analysis") / "published_fast_search.csv").open(encoding="utf-8") as file:
        return [
            PublishedSearch(
                model=row["model"],
                dataset=row["dataset"],
                method=row["method"],
                accuracy=float(row["accuracy"]),
                speedup=float(row["speedup"]) if row["speedup"] else None,
            )
            for row in csv.DictReader(file)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedLaser:
    """A model on a data set before and after the best edit that LASER found, on test.

    Accuracies are in percent and log-losses in nats, as printed; `source` says where. τ of Llama 2 is our name for its
    gate projection. `num_examples` is the size of test.
    """

    model: str
    dataset: str
    base_accuracy: float
    base_log_loss: float
    laser_accuracy: float
    laser_log_loss: float
    tau: str
    layer: int
    rho: float
    num_examples: int
    source: str


PUBLISHED_EXAMPLES = {
    "counterfact": 65_757,
    "hotpotqa": 14_618,
    "fever": 13_086,
    "bios_gender": 39_642,
    "bios_profession": 19_223,
    "truthfulqa": 5_882,
    "epistemic_reasoning": 2_000,
    "wikidata_qa": 20_321,
}
"""Examples of both splits as in the paper (Sharma, Ash, Misra, ICLR 2024, table of data sets); docs/datasets.md."""


def published_laser() -> list[PublishedLaser]:
    """The table of the paper and its talk: three models on eight data sets."""
    with (files("laser_sweep.analysis") / "published_laser.csv").open(encoding="utf-8") as file:
        return [
            PublishedLaser(
                model=row["model"],
                dataset=row["dataset"],
                base_accuracy=float(row["base_accuracy"]),
                base_log_loss=float(row["base_log_loss"]),
                laser_accuracy=float(row["laser_accuracy"]),
                laser_log_loss=float(row["laser_log_loss"]),
                tau=row["tau"],
                layer=int(row["layer"]),
                rho=float(row["rho"]),
                num_examples=_test_examples(PUBLISHED_EXAMPLES[row["dataset"]]),
                source=row["source"],
            )
            for row in csv.DictReader(file)
        ]


def _test_examples(num_examples: int) -> int:
    """Val is the first int(0.2 N), test the rest."""
    return num_examples - int(0.2 * num_examples)
