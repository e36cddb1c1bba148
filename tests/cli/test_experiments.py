"""Every bundle under conf/experiment/ asks what was published."""

from __future__ import annotations

import math

import pytest
from hydra import compose, initialize_config_dir

from laser_sweep.cli import CONF
from laser_sweep.config import Request, read_request

PUBLISHED = {
    "roberta_counterfact": ("fc_in", 8, 0.8),
    "gptj_counterfact": ("fc_in", 27, 0.01),
    "llama2_counterfact": ("fc_in", 28, 0.05),
    "roberta_hotpotqa": ("fc_out", 2, 0.4),
    "gptj_hotpotqa": ("fc_in", 27, 0.1),
    "llama2_hotpotqa": ("fc_in", 27, 0.2),
    "roberta_fever": ("fc_in", 3, 0.4),
    "gptj_fever": ("fc_in", 24, 0.01),
    "llama2_fever": ("fc_in", 30, 0.2),
    "roberta_bios_gender": ("fc_in", 9, 0.9),
    "gptj_bios_gender": ("fc_in", 14, 0.01),
    "llama2_bios_gender": ("fc_in", 24, 0.01),
    "roberta_bios_profession": ("fc_in", 3, 0.9),
    "gptj_bios_profession": ("fc_in", 18, 0.01),
    "llama2_bios_profession": ("fc_out", 30, 0.4),
    "roberta_truthfulqa": ("fc_in", 0, 0.01),
    "gptj_truthfulqa": ("fc_in", 7, 0.8),
    "llama2_truthfulqa": ("fc_in", 30, 0.05),
    "roberta_epistemic_reasoning": ("fc_out", 1, 0.4),
    "gptj_epistemic_reasoning": ("fc_in", 26, 0.01),
    "llama2_epistemic_reasoning": ("fc_out", 28, 0.01),
    "roberta_wikidata_qa": ("fc_in", 7, 0.4),
    "gptj_wikidata_qa": ("fc_in", 27, 0.01),
    "llama2_wikidata_qa": ("fc_in", 27, 0.01),
}
"""Matrix type, layer and fraction of the rank of the published results, by model and data set."""

ALL_RHO = (0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.01, 0.005)
GRIDS = {
    "gptj_bbh_grid": ("gptj", "causal_judgement", range(17, 28), ALL_RHO, 199),
    "llama2_bbh_grid": ("llama2", "causal_judgement", range(27, 32), ALL_RHO[4:], 51),
    "roberta_bbh_grid": ("roberta", "causal_judgement", range(1, 12), ALL_RHO, 199),
    "roberta_hotpot_grid": ("roberta", "hotpotqa", range(1, 12), ALL_RHO, 199),
}
"""Model, data set, layers, fractions kept, and trials of the published scripts."""
SEARCHES = {
    "laser_100_eval": ("grid", None, 100, "laser"),
    "grads_std_eval": ("gradient", "all", None, "laser"),
    "100_grads_std_eval": ("gradient", 100, None, "laser"),
    "100_grads_100_eval": ("gradient", 100, 100, "laser"),
    "clustering_100_grads_std_eval": ("gradient", 100, None, "clustered"),
    "clustering_100_grads_100_eval": ("gradient", 100, 100, "clustered"),
}
"""The variants of Compress to Impress: search, examples of the gradients and of the evaluation, intervention."""
DTYPES = {"gptj": "float16", "llama2": "float32", "roberta": "float32"}


def request_of(*overrides: str) -> Request:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return read_request(compose("config", overrides=list(overrides)))


def test_there_is_a_file_for_each_grid_and_result_and_no_other() -> None:
    assert {file.stem for file in (CONF / "experiment").iterdir()} == {*PUBLISHED, *GRIDS, *SEARCHES}


@pytest.mark.parametrize("name", sorted([*PUBLISHED, *GRIDS]))
def test_an_experiment_runs_as_the_published_code_does(name: str) -> None:
    request = request_of(f"experiment={name}")
    question = request.question
    assert question.model.dtype == DTYPES[question.model.name]
    assert question.intervention.method == "randomized"
    iterations = 20 if question.model.name == "roberta" else 2
    assert question.intervention.options == {"power_iterations": iterations, "seed": 0}
    plain = question.dataset.name in ("fever", "bios_gender", "bios_profession")
    assert question.dataset.published is not plain


@pytest.mark.parametrize(("name", "edit"), PUBLISHED.items())
def test_a_published_result_is_one_edit_on_both_splits(name: str, edit: tuple[str, int, float]) -> None:
    question = request_of(f"experiment={name}").question
    model, _, dataset = name.partition("_")
    assert (question.model.name, question.dataset.name) == (model, dataset)
    assert (question.axes.tau, question.axes.layer, question.axes.rho) == tuple((value,) for value in edit)
    assert question.evaluation.search_splits == ("val", "test")


@pytest.mark.parametrize(("name", "grid"), GRIDS.items())
def test_a_published_grid_has_its_layers_fractions_and_trials(
    name: str, grid: tuple[str, str, range, tuple[float, ...], int]
) -> None:
    model, dataset, layers, rhos, trials = grid
    question = request_of(f"experiment={name}").question
    axes = question.axes
    assert (question.model.name, question.dataset.name) == (model, dataset)
    assert (axes.tau, axes.layer, axes.rho) == (("fc_in", "fc_out"), tuple(layers), rhos)
    assert math.prod(map(len, (axes.tau, axes.layer, axes.rho))) + 1 == trials


def test_what_is_typed_wins_over_an_experiment() -> None:
    request = request_of("experiment=roberta_bbh_grid", "dataset=web_of_lies", "rho=0.5", "model.dtype=bfloat16")
    question = request.question
    assert (question.dataset.name, question.dataset.published) == ("web_of_lies", True)
    assert (question.axes.rho, question.model.dtype) == ((0.5,), "bfloat16")


@pytest.mark.parametrize(("name", "variant"), SEARCHES.items())
@pytest.mark.parametrize("model", ["gptj", "roberta", "demo"])
def test_a_published_search_is_there_for_every_model(
    name: str, variant: tuple[str, int | str | None, int | None, str], model: str
) -> None:
    search, samples, limit, intervention = variant
    question = request_of(f"experiment={name}", f"model={model}").question
    assert (question.model.name, question.search.name, question.intervention.name) == (model, search, intervention)
    assert getattr(question.search, "gradient_samples", None) == samples
    assert question.evaluation.limit == limit
    assert getattr(question.search, "score", "last20") == "last20"
    assert (question.axes.tau, question.axes.layer, question.axes.rho) == (("fc_in", "fc_out"), ("each",), ALL_RHO)
    assert len(question.intervention.settings()) == (5 if intervention == "clustered" else 1)
