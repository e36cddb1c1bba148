"""Tiny Decision Transformers, and one episode at a time played as transformers' own examples play it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from transformers import DecisionTransformerConfig, DecisionTransformerModel

from laser_sweep.engine.tasks.environment import EnvironmentSpec
from laser_sweep.engine.tasks.rollouts import Conditions

CONTEXT = 4


def tiny(states: int, actions: int, *, steps: int = 200, seed: int = 1, **changes: Any) -> DecisionTransformerModel:
    """A model with random weights, large enough that what it sees decides what it does."""
    torch.manual_seed(seed)
    config = DecisionTransformerConfig(
        state_dim=states, act_dim=actions, hidden_size=32, n_layer=2, n_head=2, n_inner=48, max_ep_len=steps,
        initializer_range=0.3, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
        **changes,
    )  # fmt: skip
    return DecisionTransformerModel(config).eval()


def conditions(env: str, states: int, max_steps: int, **changes: Any) -> Conditions:
    random = np.random.default_rng(7)
    given: dict[str, Any] = {
        "env": EnvironmentSpec(id=env, max_steps=max_steps),
        "target_return": 30.0,
        "return_scale": 10.0,
        "context": CONTEXT,
        "state_mean": tuple(random.normal(0, 0.1, states).tolist()),
        "state_std": tuple(random.uniform(0.5, 1.5, states).tolist()),
    }
    return Conditions(**{**given, **changes})


@dataclass(frozen=True)
class Alone:
    total: float
    steps: int


@torch.no_grad()
def play_alone(model: DecisionTransformerModel, told: Conditions, seed: int) -> Alone:
    """One episode, with the whole history kept and cut to the context at each step."""
    env = gymnasium.make(told.env.id, max_episode_steps=told.env.max_steps)
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    state_dim, act_dim = model.config.state_dim, model.config.act_dim
    mean, std = np.array(told.state_mean), np.array(told.state_std)

    def normal(state: Any) -> torch.Tensor:
        return torch.tensor((np.asarray(state, dtype=np.float64) - mean) / std, dtype=torch.float32)[None]

    state, _ = env.reset(seed=seed)
    states, actions = normal(state), torch.zeros(0, act_dim)
    to_go = torch.tensor([[told.target_return / told.return_scale]], dtype=torch.float32)
    timesteps = torch.zeros(1, 1, dtype=torch.long)
    total, step, done = 0.0, 0, False
    while not done:
        actions = torch.cat([actions, torch.zeros(1, act_dim)])
        seen = [one[-told.context :] for one in (states, actions, to_go[0][:, None], timesteps[0][:, None])]
        padding = told.context - len(seen[0])
        filled = [torch.cat([torch.zeros(padding, one.shape[1], dtype=one.dtype), one])[None] for one in seen]
        mask = torch.cat([torch.zeros(padding), torch.ones(len(seen[0]))])[None]
        predicted = model(
            states=filled[0].reshape(1, -1, state_dim), actions=filled[1], rewards=None, returns_to_go=filled[2],
            timesteps=filled[3][..., 0], attention_mask=mask,
        ).action_preds[0, -1]  # fmt: skip
        if discrete:
            chosen: Any = int(predicted.argmax())
            actions[-1] = torch.nn.functional.one_hot(torch.tensor(chosen), act_dim).float()
        else:
            actions[-1] = predicted
            chosen = np.clip(predicted.numpy(), env.action_space.low, env.action_space.high)
        state, reward, terminated, truncated, _ = env.step(chosen)
        total, step, done = total + float(reward), step + 1, terminated or truncated
        states = torch.cat([states, normal(state)])
        left = to_go[0, -1] - torch.tensor(float(reward) / told.return_scale, dtype=torch.float32)
        to_go = torch.cat([to_go, left.reshape(1, 1)], dim=1)
        timesteps = torch.cat([timesteps, torch.tensor([[step]])], dim=1)
    return Alone(total, step)
