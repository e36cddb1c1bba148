"""The published table of LASER, as shipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from laser_sweep.analysis.published import PUBLISHED_EXAMPLES, published_laser
from laser_sweep.cli import CONF
from laser_sweep.trial import TAUS

DOCS = Path(__file__).parents[2] / "docs"


def test_three_models_on_eight_data_sets() -> None:
    rows = published_laser()
    assert len(rows) == 24
    assert {(row.model, row.dataset) for row in rows} == {
        (model, dataset) for model in ("roberta", "gptj", "llama2") for dataset in PUBLISHED_EXAMPLES
    }
    assert {row.tau for row in rows} <= set(TAUS)
    assert all(row.source for row in rows)


@pytest.mark.parametrize(("model", "dataset"), [(row.model, row.dataset) for row in published_laser()])
def test_the_numbers_are_those_of_the_bundle_that_repeats_them(model: str, dataset: str) -> None:
    """Each bundle has them in its first line, and the edit in its settings."""
    text = (CONF / "experiment" / f"{model}_{dataset}.yaml").read_text()
    [row] = [row for row in published_laser() if (row.model, row.dataset) == (model, dataset)]
    said = [float(number) for number in re.findall(r"(?<![\w.])\d+\.\d+|(?<=log-loss )\d+", text.split("defaults:")[0])]
    assert said[:4] == [row.base_accuracy, row.base_log_loss, row.laser_accuracy, row.laser_log_loss]
    settings = yaml.safe_load(text)
    assert (settings["tau"], settings["layer"], settings["rho"]) == (row.tau, row.layer, row.rho)


def test_the_numbers_of_examples_are_those_of_the_documentation() -> None:
    lines = (DOCS / "datasets.md").read_text().splitlines()
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    documented = {row[0]: int(row[4].replace(",", "")) for row in cells if len(row) == 5 and row[4]}
    assert PUBLISHED_EXAMPLES.items() <= documented.items()
    fever = next(row for row in published_laser() if row.dataset == "fever")
    assert fever.num_examples == 13_086 - 2_617  # val has 2,617
