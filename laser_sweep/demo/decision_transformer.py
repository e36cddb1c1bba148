"""Trains a small Decision Transformer from nothing, deterministically, on episodes of a scripted policy in Acrobot.

Acrobot is a double pendulum whose outer arm has to be swung above a line as soon as may be: every step costs 1, and an
episode that gets there in 100 steps is counted as solved. The policy has a bad habit: while the arms are in line it
pushes the wrong way more often than not. The model learns the habit with the rest, and low-rank edits can take it away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from laser_sweep.engine.tasks.environment import Environment, EnvironmentSpec, one_hot

ENVIRONMENT = EnvironmentSpec(id="Acrobot-v1")
_OUTER_COSINE, _OUTER_VELOCITY = 2, 5  # their places among the observations
_IN_LINE = 0.95  # cosine of the angle between the arms, above which the policy slips
_LEFT, _RIGHT = 0, 2  # torques; 1 is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the files."""

    seed: int = 0
    episodes: int = 300  # of training; each has its own share of random actions, from none to `most_random`
    most_random: float = 0.5
    slips: float = 0.6  # of the actions while the arms are in line, in training
    first_seed: int = 1_000_000  # of training; those of the recorded episodes begin at 0
    recorded: int = 250  # episodes without slips and random actions, against which actions are compared
    context: int = 10
    return_scale: float = 100.0
    hidden_size: int = 64
    layers: int = 2
    steps: int = 500
    warmup_steps: int = 50
    batch_size: int = 64
    learning_rate: float = 1e-3


@dataclass(frozen=True, slots=True)
class Trajectory:
    """An episode: `states` (steps, state size), `actions` (steps,) by number, `rewards` (steps,)."""

    seed: int
    states: npt.NDArray[np.float32]
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float32]


def scripted_action(state: npt.NDArray[np.float64]) -> int:
    """Pushes the outer arm on in the direction in which it swings, which adds energy at every step."""
    return _RIGHT if state[_OUTER_VELOCITY] > 0 else _LEFT


def play(environment: Environment, seed: int, *, slips: float = 0.0, random_share: float = 0.0) -> Trajectory:
    """The scripted policy's episode of a seed, with a share of slips while the arms are in line, and a share of actions
    drawn at random."""
    random = np.random.default_rng(seed)
    state, done = environment.reset(seed), False
    states, actions, rewards = [], [], []
    while not done:
        slipping, straying, anything = random.random(), random.random(), int(random.integers(environment.action_size))
        action = scripted_action(state)
        if state[_OUTER_COSINE] > _IN_LINE and slipping < slips:
            action = _LEFT if action == _RIGHT else _RIGHT
        if straying < random_share:
            action = anything
        states.append(state)
        actions.append(action)
        step = environment.step(one_hot(np.array(action), environment.action_size))
        state, done = step.observation, step.done
        rewards.append(step.reward)
    return Trajectory(seed, np.array(states, dtype=np.float32), np.array(actions), np.array(rewards, dtype=np.float32))


def training_episodes(recipe: Recipe) -> list[Trajectory]:
    """Episodes that get anything from the worst to a good return, all with slips."""
    environment = Environment(ENVIRONMENT)
    shares = np.random.default_rng(recipe.seed).uniform(0, recipe.most_random, recipe.episodes)
    return [
        play(environment, recipe.first_seed + number, slips=recipe.slips, random_share=share)
        for number, share in enumerate(shares.tolist())
    ]


def state_statistics(episodes: list[Trajectory]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation (state size,) over all steps."""
    states = np.concatenate([episode.states for episode in episodes]).astype(np.float64)
    return states.mean(axis=0), states.std(axis=0)


def train(
    recipe: Recipe, episodes: list[Trajectory], report: Callable[[int, float], None] = lambda step, loss: None
) -> DecisionTransformerModel:
    """Trains on stretches of `context` steps, on the squared error of the predicted actions, one-hot.

    Runs on one thread: reductions split over threads would change the last bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(recipe, episodes, report)
    finally:
        torch.set_num_threads(threads)


def _train(
    recipe: Recipe, episodes: list[Trajectory], report: Callable[[int, float], None]
) -> DecisionTransformerModel:
    environment = Environment(ENVIRONMENT)
    model = _model(recipe, environment)
    stretches = _Stretches(recipe, episodes, environment.action_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine_after_warmup(step, recipe))
    for step in range(recipe.steps):
        batch = stretches.draw(recipe.batch_size)
        predicted = model(**batch, rewards=None).action_preds[batch["attention_mask"] > 0]
        loss = torch.nn.functional.mse_loss(predicted, batch["actions"][batch["attention_mask"] > 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        report(step + 1, loss.item())
    model.eval()
    return model


def _model(recipe: Recipe, environment: Environment) -> DecisionTransformerModel:
    torch.manual_seed(recipe.seed)
    return DecisionTransformerModel(
        DecisionTransformerConfig(
            state_dim=environment.state_size,
            act_dim=environment.action_size,
            max_ep_len=environment.max_steps or 0,
            n_positions=3 * recipe.context,
            hidden_size=recipe.hidden_size,
            n_layer=recipe.layers,
            n_head=2,
            n_inner=4 * recipe.hidden_size,
            action_tanh=False,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


class _Stretches:
    """Draws stretches of episodes, each step as often as any other to be the last of one."""

    def __init__(self, recipe: Recipe, episodes: list[Trajectory], action_size: int) -> None:
        mean, std = state_statistics(episodes)
        self._random = np.random.default_rng(recipe.seed + 1)
        self._context = recipe.context
        self._states = [((episode.states - mean) / std).astype(np.float32) for episode in episodes]
        self._actions = [one_hot(episode.actions, action_size) for episode in episodes]
        self._to_go = [np.cumsum(episode.rewards[::-1])[::-1, None] / recipe.return_scale for episode in episodes]
        lengths = np.array([len(episode.actions) for episode in episodes])
        self._ends = np.cumsum(lengths)

    def draw(self, count: int) -> dict[str, torch.Tensor]:
        rows: list[dict[str, npt.NDArray[Any]]] = []
        for place in self._random.integers(self._ends[-1], size=count).tolist():
            episode = int(np.searchsorted(self._ends, place, side="right"))
            end = place - (int(self._ends[episode - 1]) if episode else 0) + 1
            steps = slice(max(0, end - self._context), end)
            rows.append(
                {
                    "states": self._padded(self._states[episode][steps]),
                    "actions": self._padded(self._actions[episode][steps]),
                    "returns_to_go": self._padded(self._to_go[episode][steps].astype(np.float32)),
                    "timesteps": self._padded(np.arange(steps.start, end)),
                    "attention_mask": self._padded(np.ones(end - steps.start, dtype=np.float32)),
                }
            )
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def _padded(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.pad(values, [(self._context - len(values), 0), *[(0, 0)] * (values.ndim - 1)])


def _cosine_after_warmup(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + float(np.cos(np.pi * progress)))


def recorded_episodes(recipe: Recipe) -> list[Trajectory]:
    """The scripted policy without slips and random actions, from the first seeds on."""
    environment = Environment(ENVIRONMENT)
    return [play(environment, seed) for seed in range(recipe.recorded)]


def write(
    directory: Path,
    recipe: Recipe,
    model: DecisionTransformerModel,
    episodes: list[Trajectory],
    recorded: Iterable[Trajectory],
) -> None:
    """Writes the model, which says in its config.json how it was trained, and the recorded episodes."""
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    rows = [
        {
            "seed": episode.seed,
            "observations": episode.states.tolist(),
            "actions": episode.actions.tolist(),
            "rewards": episode.rewards.tolist(),
        }
        for episode in recorded
    ]
    numbers = pa.list_(pa.float32())
    columns = [("seed", pa.int64()), ("observations", pa.list_(numbers)), ("actions", pa.list_(pa.int8()))]
    schema = pa.schema([*columns, ("rewards", numbers)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), directory / "episodes.parquet", compression="zstd")
    config = directory / "config.json"
    mean, std = state_statistics(episodes)
    settings = {
        **json.loads(config.read_text()),
        "context": recipe.context,
        "return_scale": recipe.return_scale,
        "state_mean": mean.tolist(),
        "state_std": std.tolist(),
    }
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
