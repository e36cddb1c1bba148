"""Episodes from the command line: a small player, one of the hub, and requests that are wrong."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import huggingface_hub.constants
import numpy as np
import pandas as pd
import pytest
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from laser_sweep.demo.decision_transformer import Recipe, recorded_episodes, train, training_episodes, write

Run = Callable[..., "subprocess.CompletedProcess[str]"]
HOPPER = "edbeeching/decision-transformer-gym-hopper-expert"
COMMIT = "9241dee30839cf8ca9bed88afd684c79791c7430"
PLAYER = ("model=decision_transformer", "dataset=rollouts")


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was hardly trained, with recorded episodes of 20 seeds."""
    directory = tmp_path_factory.mktemp("player")
    recipe = Recipe(episodes=4, recorded=20, steps=5, warmup_steps=1)
    episodes = training_episodes(recipe)
    write(directory, recipe, train(recipe, episodes), episodes, recorded_episodes(recipe))
    return directory


def at(player: Path) -> tuple[str, ...]:
    return (
        *PLAYER, f"model.path={player}", f"dataset.path={player}/episodes.parquet", "dataset.max_steps=40",
        "tracking=none",
    )  # fmt: skip


def test_a_sweep_of_a_player_ends_with_returns(laser: Run, player: Path, tmp_path: Path) -> None:
    ran = laser(*at(player), "tau=[q_proj,fc_in]", "layer=[0,1]", "rho=[0.1]")
    assert ran.returncode == 0, ran.stderr
    assert "decision_transformer on rollouts, val (4 episodes)" in ran.stdout
    assert "on test (16 episodes, looked at once): untouched return -" in ran.stdout
    assert "accuracy" not in ran.stdout
    trials = pd.read_parquet(tmp_path / "outputs/store/trials")
    val = trials[trials["split"].eq("val")]
    assert len(val) == 5
    assert val["mean_return"].between(-40, -1).all()
    assert val["action_error"].gt(0).all()
    assert trials["accuracy"].isna().all()
    assert set(json.loads(trials["config_json"].iloc[0])["dataset"]) >= {"env", "target_return", "state_mean"}
    again = laser(*at(player), "tau=[q_proj,fc_in]", "layer=[0,1]", "rho=[0.1]")
    assert "every trial was stored already" in again.stdout


def test_a_guard_on_episodes_goes_by_their_action_error(laser: Run, player: Path) -> None:
    guard = ("guard=rollouts", f"guard.dataset.path={player}/episodes.parquet", "guard.dataset.max_steps=30")
    ran = laser(*at(player), "tau=fc_in", "layer=[0,1]", "rho=[0.05]", *guard, "guard.bound=100")
    assert ran.returncode == 0, ran.stderr
    assert "no edit is better" in ran.stdout or re.search(
        r"guard rollouts: action error 0\.\d+ untouched, 0\.", ran.stdout
    )
    ran = laser(*at(player), "guard=rollouts", "guard.dataset.path=null", "guard.dataset.episodes=20")
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "guard.dataset=rollouts goes by the action error, which takes recorded episodes" in ran.stderr


def test_batches_of_any_size_store_the_same_returns(laser: Run, player: Path, tmp_path: Path) -> None:
    for size in (1, 8192):
        line = (*at(player), "rho=0.1", f"evaluation.batch_tokens={size}", f"store.path={tmp_path}/{size}")
        assert laser(*line).returncode == 0
    one, other = (
        pd.read_parquet(tmp_path / str(size) / "predictions").sort_values(["trial_key", "example_id"])
        for size in (1, 8192)
    )
    assert one["episode_return"].tolist() == other["episode_return"].tolist()
    assert one["trial_key"].tolist() == other["trial_key"].tolist()
    np.testing.assert_allclose(one["action_error"], other["action_error"], rtol=1e-5)


def test_a_dry_run_of_a_player_counts_its_trials(laser: Run, player: Path) -> None:
    ran = laser(*at(player), "tau=each", "layer=each", "rho=[0.1,0.5]", "dry_run=true")
    assert ran.returncode == 0, ran.stderr
    assert "trials 25 (the untouched model included)" in ran.stdout


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "not trained": (PLAYER, "not there yet; `python -m laser_sweep.demo decision_transformer` makes it"),
    "accuracy": ((*PLAYER, "objective=accuracy"), "objective=accuracy is not measured on dataset=rollouts, which plays "
                 "episodes; give objective=return or action_error"),
    "log-loss": ((*PLAYER, "objective=mean_log_loss"), "give objective=return or action_error"),
    "return": (("objective=return",), "objective=return is not measured on dataset=demo, which asks prompts; "
               "give objective=accuracy or log_loss"),
    "gradients": ((*PLAYER, "search=gradient"), "search=gradient goes by answers to prompts, but dataset=rollouts "
                  "plays episodes; give one of grid, halving, greedy, noise_edge, optuna"),
    "racing": ((*PLAYER, "search=racing"), "search=racing goes by answers to prompts"),
    "none": ((*PLAYER, "dataset.episodes=0"), "dataset.episodes=0 is too small"),
    "language": (("dataset=rollouts",), "dataset=rollouts plays episodes, but model=demo is a causal language model; "
                 "give model=decision_transformer"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_request_that_cannot_be_carried_out_is_refused_in_one_line(laser: Run, name: str) -> None:
    line, message = WRONG[name]
    ran = laser(*line)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert ran.stdout == ""


WITH_PLAYER = {
    "no target": (("dataset.target_return=null",), "dataset.target_return is missing"),
    "no environment": (("dataset.env=Akrobot-v1",), "dataset.env=Akrobot-v1 does not exist (did you mean Acrobot-v1?)"),
    "another environment": (("dataset.env=CartPole-v1", "dataset.path=null", "dataset.episodes=20"),
                            "observations of 4 numbers and actions of 2, but the model reads 6 and gives 3"),
    "prompts": (("dataset=demo",), "but model=decision_transformer plays episodes; give dataset=rollouts"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITH_PLAYER)
def test_what_does_not_fit_the_player_is_refused_in_one_line(laser: Run, player: Path, name: str) -> None:
    changes, message = WITH_PLAYER[name]
    base = [PLAYER[0], f"model.path={player}", "tracking=none"] if name == "prompts" else list(at(player))
    changed = {change.partition("=")[0] for change in changes}
    ran = laser(*[word for word in base if word.partition("=")[0] not in changed], *changes)
    assert ran.returncode == 2, ran.stdout
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


class _Hopper(gymnasium.Env[Any, Any]):
    """As many observations and actions as MuJoCo's hopper has, and none of its physics."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (11,))
    action_space = gymnasium.spaces.Box(-1, 1, (3,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.normal(0, 1, 11)
        return self.state, {}

    def step(self, action: Any) -> Any:
        self.state = 0.9 * self.state + 0.1 * np.resize(action, 11)
        return self.state, float(self.state.mean()), False, False, {}


@pytest.fixture
def hopper() -> Iterator[str]:
    gymnasium.register("FlatHopper-v0", entry_point=_Hopper)
    yield "FlatHopper-v0"
    gymnasium.registry.pop("FlatHopper-v0")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a machine without network that holds a tiny hopper's player under the real id."""
    cache = tmp_path / "hub"
    snapshot = cache / f"models--{HOPPER.replace('/', '--')}" / "snapshots" / COMMIT
    torch.manual_seed(0)
    config = DecisionTransformerConfig(
        state_dim=11, act_dim=3, hidden_size=16, n_layer=3, n_head=1, max_ep_len=4096, initializer_range=0.3
    )
    DecisionTransformerModel(config).save_pretrained(snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


@pytest.mark.usefixtures("hub")
def test_the_hopper_of_the_hub_plays_with_the_scales_of_its_card(laser: Run, hopper: str, tmp_path: Path) -> None:
    line = ("model=decision_transformer_hopper", "dataset=hopper", f"dataset.env={hopper}", "dataset.max_steps=15")
    ran = laser(*line, "dataset.episodes=20", "tau=v_proj", "layer=-1", "rho=0.5", "tracking=none")
    assert ran.returncode == 0, ran.stderr
    assert "decision_transformer_hopper on hopper, val (4 episodes)" in ran.stdout
    trials = pd.read_parquet(tmp_path / "outputs/store/trials")
    assert set(trials["model_revision"]) == {COMMIT}
    assert trials["mean_return"].notna().all()
    assert trials["action_error"].isna().all()  # no episodes were recorded
    assert trials["tau"].dropna().unique().tolist() == ["v_proj"]


@pytest.mark.usefixtures("hub")
def test_without_mujoco_the_hopper_says_what_it_lacks(laser: Run) -> None:
    if find_spec("mujoco") is not None:
        pytest.skip("MuJoCo is installed")
    ran = laser("model=decision_transformer_hopper", "dataset=hopper", "dry_run=true")
    assert ran.returncode == 2
    assert re.match(r"laser_sweep: dataset\.env=Hopper-v5 cannot be opened: MuJoCo is not installed", ran.stderr)
    assert ran.stderr.count("\n") == 1
