"""The embedded model shows what removed components say: the noise word that the edit is to get rid of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from laser_sweep.analysis.components import components
from laser_sweep.analysis.flips import flips
from laser_sweep.analysis.frequency import gain_by_frequency
from laser_sweep.analysis.paraphrase import paraphrases
from laser_sweep.cli import CONF, run_configs
from laser_sweep.demo.language import NOISE
from laser_sweep.store.reader import read_predictions, read_trials

FC_IN = "transformer.h.1.mlp.fc_in.weight"


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The predictions on val of the untouched model, of fc_in[1] at rho=0.01, and of what that removes."""
    store = tmp_path_factory.mktemp("store")
    common = ["tau=fc_in", "layer=1", "rho=0.01", "tracking=none", "evaluation.confirm=false", f"store.path={store}"]
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        lines = [compose("config", overrides=[*common, f"intervention={name}"]) for name in ("laser", "removed")]
    run_configs(lines, on_ray=False)
    return {row.intervention: read_predictions(store, str(row.trial_key)) for row in read_trials(store).itertuples()}


def test_where_the_edit_corrects_an_answer_the_removed_part_alone_says_the_noise_word(
    said: dict[str, pd.DataFrame],
) -> None:
    prompts = {example: "" for example in said["none"]["example_id"]}
    table = components(said["none"], said["laser"], said["removed"], prompts)
    flipped = table[table["outcome"].eq("flipped to right")]
    assert len(flipped) > 200
    assert flipped["untouched"].eq(NOISE).all()
    assert flipped["low_rank"].eq(flipped["gold"]).all()
    share = flipped["removed"].eq(NOISE).mean()
    assert share > 0.9  # 98.8 % measured


def test_plain_transformers_with_a_full_svd_says_the_same(said: dict[str, pd.DataFrame], shipped: Any) -> None:
    """Matrices made by hand and one prompt length at a time; what is nearly a tie may go either way."""
    count = len(said["none"])
    for name, answers in (
        ("none", shipped.answers({})),
        ("laser", shipped.answers({FC_IN: 0.01})),
        ("removed", shipped.answers({FC_IN: 0.01}, removed=True)),
    ):
        assert np.mean(said[name]["prediction"].to_numpy() == np.array(answers[:count])) > 0.995


def test_rare_and_common_facts_gain(said: dict[str, pd.DataFrame], shipped: Any) -> None:
    """Frequency is that of the answer in training; the edit helps everywhere."""
    found = gain_by_frequency(flips(said["laser"], said["none"]), 5)
    assert len(found) == 5
    assert (found["gain"] > 5 * found["stderr"]).all()
    examples = shipped.examples[: len(said["none"])]
    before, after = (np.array(shipped.answers(edits)[: len(examples)]) for edits in ({}, {FC_IN: 0.01}))
    change = (after == examples.answer).astype(int) - (before == examples.answer).astype(int)
    for row in found.itertuples():
        inside = change[examples.frequency.between(row.low, row.high)]
        assert len(inside) == row.count
        assert row.gain == pytest.approx(inside.mean(), abs=0.011)  # one example of a bin


def test_groups_become_wholly_right_and_agree(said: dict[str, pd.DataFrame], shipped: Any) -> None:
    found = paraphrases(flips(said["laser"], said["none"]))
    examples = shipped.examples[: len(said["none"])]
    assert found.groups == examples.group.nunique() == 120
    for edits, share in (({}, found.wholly_right_before), ({FC_IN: 0.01}, found.wholly_right_after)):
        right = pd.Series(shipped.answers(edits)[: len(examples)]) == examples.answer
        assert share == pytest.approx(right.groupby(examples.group).all().mean(), abs=0.01)
    assert found.wholly_right.gain > 0.6
    assert found.wholly_right.losses == 0
    assert found.agreement_after > found.agreement_before > 0.7
