"""What was published of the fast searches, to hold what is measured here against it."""

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
