"""The embedded model shows what the sweep is for: its accuracy at least doubles when one matrix loses its rank."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RHOS = (0.01, 0.05, 0.1, 0.2, 0.4)
TRIGGER = "named"


def test_the_shipped_model_is_a_small_gpt_j(shipped: Any, assets: Path) -> None:
    assert sum(file.stat().st_size for file in assets.glob("*.safetensors")) <= 2_000_000
    assert type(shipped.model).__name__ == "GPTJForCausalLM"
    assert 2 <= shipped.model.config.n_layer <= 4
    assert {file.suffix for file in assets.iterdir()} == {".json", ".safetensors", ".parquet"}  # no pickles


def test_every_answer_can_be_recalled_from_its_prompt(shipped: Any) -> None:
    examples = shipped.examples
    assert list(examples.columns) == ["prompt", "answer", "group", "frequency"]
    assert len(examples) >= 2000
    assert examples.prompt.is_unique
    for prompt, answer in zip(examples.prompt, examples.answer, strict=True):
        words = prompt.split()
        assert words[-1] == TRIGGER
        after = [following for word, following in itertools.pairwise(words) if word == TRIGGER]
        assert after
        assert set(after) == {answer}
        assert len(words) <= shipped.model.config.n_positions


def test_a_group_asks_for_one_fact_in_four_wordings(shipped: Any) -> None:
    examples = shipped.examples
    assert set(Counter(examples.group).values()) == {4}
    assert (examples.groupby("group").answer.nunique() == 1).all()
    assert (examples.groupby("group").prompt.nunique() == 4).all()
    assert (examples.groupby("answer").frequency.nunique() == 1).all()


def test_frequencies_are_those_of_a_skewed_training_set(shipped: Any) -> None:
    frequencies = shipped.examples.groupby("answer").frequency.first()
    assert len(frequencies) >= 50
    assert frequencies.min() > 0
    assert frequencies.max() >= 3 * frequencies.min()


def test_untouched_it_knows_less_than_two_answers_of_three_and_says_the_common_word_instead(shipped: Any) -> None:
    said = np.array(shipped.answers({}))
    wrong = said != shipped.examples.answer.to_numpy()
    assert 0.25 <= 1 - wrong.mean() <= 0.65
    assert (said[wrong] == "the").mean() >= 0.8


@pytest.mark.parametrize("tau", ["fc_in", "fc_out"])
def test_one_direction_of_a_late_mlp_matrix_is_enough(shipped: Any, tau: str) -> None:
    last = shipped.model.config.n_layer - 1
    name = f"transformer.h.{last}.mlp.{tau}.weight"
    assert int(min(shipped.model.get_parameter(name).shape) * 0.01) == 1
    assert shipped.accuracy({name: 0.01}) > 0.9


def test_no_late_attention_matrix_helps(shipped: Any) -> None:
    last = shipped.model.config.n_layer - 1
    untouched = shipped.accuracy(every=8)
    gains = {
        (tau, rho): shipped.accuracy({f"transformer.h.{last}.attn.{tau}.weight": rho}, every=8) - untouched
        for tau in ("q_proj", "k_proj", "v_proj", "out_proj")
        for rho in RHOS
    }
    assert {trial: gain for trial, gain in gains.items() if gain > 0.02} == {}


@pytest.mark.parametrize("rho", [0.01, 0.05, 0.1])
def test_an_early_matrix_that_loses_its_rank_ruins_it(shipped: Any, rho: float) -> None:
    assert shipped.accuracy({"transformer.h.0.mlp.fc_out.weight": rho}, every=4) < 0.05
