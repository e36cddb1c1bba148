"""What is shipped of the published searches is what the slides have."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

import pytest

from laser_sweep.analysis.published import published_fast_search
from laser_sweep.cli import CONF

AVERAGES = {
    ("gptj", "grads_std_eval"): 9.70,
    ("gptj", "laser_100_eval"): 29.4,
    ("gptj", "100_grads_std_eval"): 10.2,
    ("gptj", "100_grads_100_eval"): 86.5,
    ("gptj", "clustering_100_grads_std_eval"): 1.97,
    ("gptj", "clustering_100_grads_100_eval"): 52.0,
    ("roberta", "clustering_100_grads_std_eval"): 0.86,
}
"""The last line of each of the slides' tables, but for one: they say 22.2 where the mean of the rows is 19.1 (RoBERTa,
clustering on 100 and 100)."""


@pytest.mark.parametrize(("model", "method"), AVERAGES)
def test_the_mean_speedup_is_the_one_on_the_slides(model: str, method: str) -> None:
    speedups = [row.speedup for row in published_fast_search() if (row.model, row.method) == (model, method)]
    found = fmean(speedup for speedup in speedups if speedup is not None)
    assert found == pytest.approx(AVERAGES[model, method], rel=0.005)


def test_every_table_has_the_eight_data_sets() -> None:
    rows = published_fast_search()
    assert set(Counter((row.model, row.method) for row in rows).values()) == {8}
    assert len({row.dataset for row in rows}) == 8


def test_a_full_search_has_an_accuracy_and_no_speedup() -> None:
    """It is no fast one."""
    rows = {(row.model, row.dataset, row.method): row for row in published_fast_search()}
    full = rows["gptj", "epistemic_reasoning", "clustering_full_search"]
    assert (full.accuracy, full.speedup) == (62.9, None)
    assert {row.method for row in rows.values() if row.speedup is None} == {"clustering_full_search"}


def test_every_other_search_has_a_bundle() -> None:
    methods = {row.method for row in published_fast_search()} - {"clustering_full_search"}
    assert methods <= {file.stem for file in (CONF / "experiment").glob("*.yaml")}
