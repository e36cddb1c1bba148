"""The Decision Transformer that is trained where it is used."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import pytest
import torch

from laser_sweep.demo.decision_transformer import (
    ENVIRONMENT,
    Recipe,
    Trajectory,
    play,
    recorded_episodes,
    state_statistics,
    train,
    training_episodes,
    write,
)
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.tasks.environment import Environment, one_hot

SMALL = Recipe(episodes=8, recorded=12, steps=25, warmup_steps=2)


@pytest.fixture(scope="module")
def episodes() -> list[Trajectory]:
    return training_episodes(SMALL)


def test_training_twice_gives_the_same_bits(episodes: list[Trajectory]) -> None:
    first, second = (train(replace(SMALL, steps=3), episodes).state_dict() for _ in range(2))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_episodes_of_training_get_anything_from_bad_to_good(episodes: list[Trajectory]) -> None:
    returns = [float(episode.rewards.sum()) for episode in episodes]
    assert min(returns) < -200
    assert max(returns) > -140
    again = training_episodes(SMALL)
    assert all(np.array_equal(one.actions, other.actions) for one, other in zip(episodes, again, strict=True))


def test_the_policy_slips_while_the_arms_are_in_line_and_nowhere_else() -> None:
    environment = Environment(ENVIRONMENT)
    steadfast = [play(environment, seed, slips=0.6) for seed in range(6)]
    states, actions = (np.concatenate([getattr(one, name) for one in steadfast]) for name in ("states", "actions"))
    wrong = actions != np.where(states[:, 5] > 0, 2, 0)  # 5: the velocity of the outer arm
    in_line = states[:, 2] > 0.95  # 2: the cosine of its angle
    assert not wrong[~in_line].any()
    assert wrong[in_line].mean() == pytest.approx(0.6, abs=0.1)


def test_training_lowers_the_error(episodes: list[Trajectory]) -> None:
    losses: list[float] = []
    train(SMALL, episodes, lambda step, loss: losses.append(loss))
    assert len(losses) == SMALL.steps
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_recorded_episodes_happen_again_when_their_actions_are_played(tmp_path: Path) -> None:
    recipe = replace(SMALL, steps=1)
    episodes = training_episodes(replace(recipe, episodes=2))
    write(tmp_path, recipe, train(recipe, episodes), episodes, recorded_episodes(recipe))
    rows = pd.read_parquet(tmp_path / "episodes.parquet")
    assert rows["seed"].tolist() == list(range(12))
    env = gymnasium.make(ENVIRONMENT.id)
    for row in rows.head(3).itertuples():
        state, _ = env.reset(seed=row.seed)
        for place, action in enumerate(row.actions):
            np.testing.assert_allclose(row.observations[place], state, rtol=1e-6)
            state, reward, terminated, truncated, _ = env.step(action)
            assert reward == row.rewards[place]
        assert terminated or truncated


def test_the_model_says_how_it_was_trained(tmp_path: Path, episodes: list[Trajectory]) -> None:
    recipe = replace(SMALL, steps=1)
    model = train(recipe, episodes)
    write(tmp_path, recipe, model, episodes, [])
    settings = json.loads((tmp_path / "config.json").read_text())
    states = np.concatenate([episode.states for episode in episodes]).astype(np.float64)
    np.testing.assert_allclose(settings["state_mean"], states.mean(axis=0))
    np.testing.assert_allclose(settings["state_std"], states.std(axis=0))
    np.testing.assert_allclose(state_statistics(episodes)[0], states.mean(axis=0))
    assert (settings["context"], settings["return_scale"]) == (recipe.context, recipe.return_scale)
    assert (settings["state_dim"], settings["act_dim"], settings["max_ep_len"]) == (6, 3, 500)
    assert settings["architectures"] == ["DecisionTransformerModel"]
    assert find_layout(model).num_layers == recipe.layers


def test_the_scripted_policy_solves_the_environment() -> None:
    env = Environment(ENVIRONMENT)
    successes = []
    for episode in recorded_episodes(SMALL):
        env.reset(episode.seed)
        steps = [env.step(one_hot(np.array(action), env.action_size)) for action in episode.actions]
        successes.append(steps[-1].success)
    assert np.mean(successes) > 0.5


def test_the_command_writes_where_it_is_told(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "laser_sweep.demo", "decision_transformer", "--to", "player", "--steps", "1"]
    ran = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True)
    assert ran.stdout.splitlines()[-1] == "wrote player"
    assert {file.name for file in (tmp_path / "player").iterdir()} == {
        "config.json",
        "model.safetensors",
        "episodes.parquet",
    }
    assert ran.stderr == ""


@pytest.mark.slow
def test_an_edit_of_low_rank_gets_a_better_return(tmp_path: Path) -> None:
    recipe = Recipe()
    episodes = training_episodes(recipe)
    write(tmp_path, recipe, train(recipe, episodes), episodes, recorded_episodes(recipe))
    line = [
        sys.executable, "-m", "laser_sweep", "model=decision_transformer", f"model.path={tmp_path}", "dataset=rollouts",
        f"dataset.path={tmp_path}/episodes.parquet", "evaluation.split=all", "tau=fc_in", "layer=0", "rho=0.05",
        "tracking=none",
    ]  # fmt: skip
    subprocess.run(line, cwd=tmp_path, check=True, timeout=1200)
    trials = pd.read_parquet(tmp_path / "outputs/store/trials")
    edited = trials[trials["rho"].notna()].set_index("split")
    assert edited.loc["test", "num_examples"] == 200
    assert edited.loc["test", "gain"] > 10
    assert edited.loc["test", "gain_p_value"] < 0.001
