"""A Decision Transformer that is exported plays as the edited one did."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

import laser_sweep
from laser_sweep.export.factored import FactoredLinear
from laser_sweep.store.reader import read_predictions, read_trials

from ..engine.players import conditions, play_alone, tiny

EPISODES, STEPS = 20, 60


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, sweep: Callable[..., Path]) -> Path:
    """The store of two edits of a model that plays CartPole, with recorded episodes of random actions."""
    directory = tmp_path_factory.mktemp("player")
    tiny(4, 2).save_pretrained(directory)
    told = conditions("CartPole-v1", 4, STEPS)
    config = directory / "config.json"
    scales = {name: getattr(told, name) for name in ("context", "return_scale", "state_mean", "state_std")}
    config.write_text(json.dumps({**json.loads(config.read_text()), **scales}))
    pd.DataFrame([recorded(seed) for seed in range(EPISODES)]).to_parquet(directory / "episodes.parquet")
    line = (
        "model=decision_transformer", f"model.path={directory}", "dataset=rollouts", "dataset.env=CartPole-v1",
        f"dataset.path={directory}/episodes.parquet", f"dataset.max_steps={STEPS}",
        f"dataset.target_return={told.target_return}", "evaluation.split=all",
    )  # fmt: skip
    return sweep(tmp_path_factory.mktemp("store"), *line, "tau=fc_in", "layer=last", "rho=[0.05,0.3]")


def recorded(seed: int) -> dict[str, Any]:
    env, random = gymnasium.make("CartPole-v1"), np.random.default_rng(seed)
    state, done = env.reset(seed=seed)[0], False
    row: dict[str, Any] = {"seed": seed, "observations": [], "actions": [], "rewards": []}
    while not done:
        row["observations"].append(state.tolist())
        row["actions"].append(int(random.integers(2)))
        state, reward, terminated, truncated, _ = env.step(row["actions"][-1])
        row["rewards"].append(float(reward))
        done = terminated or truncated
    return row


def key_of(store: Path, rho: float, split: str) -> str:
    trials = read_trials(store)
    return str(trials[trials["rho"].eq(rho) & trials["split"].eq(split)]["trial_key"].iloc[0])


@pytest.mark.parametrize("form", ["dense", "factored"])
def test_an_exported_player_gets_the_returns_that_were_stored(
    export: Callable[..., Any], played: Path, form: str
) -> None:
    key = key_of(played, 0.05, "test")
    ended = export(key, "--to", "new", "--form", form, "--verify", store=played)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(
        r"verified on test \(16 episodes\): return (\d+\.\d\d), stored \1; action error differs by at most "
        r"\d\.\de[-+]\d\d, every return the same",
        ended.out,
    )
    model = laser_sweep.load("new").eval()
    assert isinstance(model.encoder.h[1].mlp.c_fc, FactoredLinear) == (form == "factored")
    stored = read_predictions(played, key)
    told = conditions("CartPole-v1", 4, STEPS)
    alone = [play_alone(model, told, int(seed)).total for seed in stored["example_id"]]
    assert stored["episode_return"].tolist() == alone
    assert len(set(alone)) > 3  # or any model would do


def test_the_card_of_a_player_speaks_of_returns(export: Callable[..., Any], played: Path) -> None:
    assert export(key_of(played, 0.3, "val"), "--to", "new", store=played).code == 0
    card = Path("new/README.md").read_text()
    assert "| split | model | episodes | return | action error | gain | p |" in card
    assert "p that of the paired t-test." in card
    assert 'AutoModel.from_pretrained("<this directory>")' in card
    assert not {"tokenizer", "accuracy", "log-loss", "McNemar"} & set(re.findall(r"[\w-]+", card))
    example = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1].replace("<this directory>", "new"), names)
    assert torch.linalg.matrix_rank(names["model"].encoder.h[1].mlp.c_fc.weight) == int(32 * 0.3)


def test_a_player_that_is_not_what_was_measured_is_not_kept(
    export: Callable[..., Any], played: Path, tmp_path: Path
) -> None:
    key = key_of(played, 0.05, "val")
    other = shutil.copytree(played, tmp_path / "other")
    file = other / "predictions" / f"{key}.parquet"
    table = pq.read_table(file)
    place = table.schema.get_field_index("action_error")
    pq.write_table(table.set_column(place, table.schema.field(place), pc.add(table["action_error"], 0.25)), file)
    ended = export(key, "--to", "new", "--verify", store=other)
    assert ended.code == 1
    assert "on val action error differs by 0.25, and 1e-05 is allowed, which --tolerance changes" in ended.err
    assert list(Path().iterdir()) == []
