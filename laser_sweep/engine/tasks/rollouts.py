"""Episodes in an environment: the data set of models that act (Decision Transformer, Chen et al. 2021)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from laser_sweep.engine.tasks.environment import Environment, EnvironmentSpec, one_hot
from laser_sweep.engine.tasks.example import AskedModel, BadRow, Splits, refuse_rows
from laser_sweep.engine.tasks.source import BadRowError, Row, nested, number_of, parse, read_rows
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError
from laser_sweep.measures import EPISODES, Measures
from laser_sweep.trial import Split

DEFAULT_CONTEXT = 20  # steps that the published models see
TOKENS_A_STEP = 3  # return-to-go, state and action
LEAST_EPISODES = 10  # val is a fifth, and one episode has no standard error
COLUMNS = ("seed", "observations", "actions", "rewards")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recorded:
    """An episode that another policy played: `states` (steps, state size) as observed, `actions` (steps, action size)
    as vectors, `rewards` (steps,)."""

    states: npt.NDArray[np.float64]
    actions: npt.NDArray[np.float32]
    rewards: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """The episode that begins when the environment is reset with `seed`; `recorded` is another policy's from there."""

    seed: int
    recorded: Recorded | None = None

    @property
    def id(self) -> str:
        return str(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the model is told: to get `target_return`, with returns divided by `return_scale`, states as
    (state - mean) / std, and the last `context` steps in view."""

    env: EnvironmentSpec
    target_return: float
    return_scale: float
    context: int
    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]

    def normalised(self, states: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """(…, state size) as observed -> as the model reads them."""
        mean, std = np.array(self.state_mean), np.array(self.state_std)
        scaled: npt.NDArray[np.float32] = ((states - mean) / std).astype(np.float32)
        return scaled


@dataclass(frozen=True)
class Rollouts(Splits[Episode]):
    """Episodes ready to be played."""

    measures: ClassVar[Measures] = EPISODES

    conditions: Conditions
    max_steps: int
    bad_rows: tuple[BadRow, ...] = ()

    @cached_property
    def revision(self) -> str:
        """16 hexadecimal characters of blake2b over all that decides the scores: conditions, seeds, recorded steps."""
        asked = self.conditions
        identity = [asked.env.id, asked.env.max_steps, asked.target_return, asked.return_scale, asked.context]
        scales = [asked.state_mean, asked.state_std]
        digest = hashlib.blake2b(json.dumps(["rollouts", *identity, *scales]).encode(), digest_size=8)
        for episode in self.examples:
            digest.update(f"{episode.seed}\0".encode())
            if episode.recorded is not None:
                for array in (episode.recorded.states, episode.recorded.actions, episode.recorded.rewards):
                    digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def tokens_an_episode(self) -> int:
        """What a model reads at most in one episode: its context at each step."""
        return self.max_steps * self.conditions.context * TOKENS_A_STEP

    def skipped(self, split: Split) -> tuple[BadRow, ...]:
        """The rows of a split that made no episode: none, as an episode that cannot be read is refused."""
        return ()


def load_rollouts(spec: DatasetSpec, model: AskedModel) -> Rollouts:
    """The episodes that a data set describes, for a model.

    Raises RequestError where something is missing or does not fit environment, model and file together.
    """
    if spec.env is None:
        raise RequestError("dataset.env is missing; name an environment of gymnasium with dataset.env=<id>")
    if spec.target_return is None or not math.isfinite(spec.target_return):
        raise RequestError(
            "dataset.target_return is missing: a Decision Transformer is told which return to get; "
            "set it with dataset.target_return=<number>"
        )
    env = EnvironmentSpec(id=spec.env, max_steps=spec.max_steps)
    environment, settings = Environment(env), model.settings()
    _check_sizes(spec, environment, settings)
    max_steps = environment.max_steps
    longest = settings.get("max_ep_len")
    if max_steps is None or (isinstance(longest, int) and max_steps > longest):
        said = "no limit of steps" if max_steps is None else f"episodes of up to {max_steps:,} steps"
        known = "" if longest is None else f", and the model knows {longest:,}"
        raise RequestError(f"dataset.env={spec.env} has {said}{known}; set dataset.max_steps=<steps>")
    conditions = Conditions(
        env=env,
        target_return=spec.target_return,
        return_scale=_return_scale(spec, settings),
        context=_context(spec, settings),
        state_mean=_statistics(spec, "state_mean", settings, environment),
        state_std=_statistics(spec, "state_std", settings, environment),
    )
    if min(conditions.state_std) <= 0:
        raise RequestError(f"dataset.state_std={list(conditions.state_std)} has a deviation that is not above 0")
    episodes = _episodes(spec, environment)
    if len(episodes) < LEAST_EPISODES:
        raise RequestError(
            f"dataset={spec.name} has {len(episodes)} episodes; val is a fifth, so it takes {LEAST_EPISODES} or more: "
            "set dataset.episodes=<count>"
        )
    return Rollouts(spec.name, episodes, conditions=conditions, max_steps=max_steps)


def _check_sizes(spec: DatasetSpec, environment: Environment, settings: Mapping[str, Any]) -> None:
    there = environment.state_size, environment.action_size
    wanted = settings.get("state_dim", there[0]), settings.get("act_dim", there[1])
    if there != wanted:
        raise RequestError(
            f"dataset.env={spec.env} has observations of {there[0]} numbers and actions of {there[1]}, but the model "
            f"reads {wanted[0]} and gives {wanted[1]}; give dataset.env=<the environment that it was trained on>"
        )


def _context(spec: DatasetSpec, settings: Mapping[str, Any]) -> int:
    context = spec.context or settings.get("context") or settings.get("max_length") or DEFAULT_CONTEXT
    if not isinstance(context, int) or context < 1:
        raise RequestError(
            f"the model's config.json has context={context}, which is no number of steps; set dataset.context=<steps>"
        )
    return context


def _return_scale(spec: DatasetSpec, settings: Mapping[str, Any]) -> float:
    scale = spec.return_scale if spec.return_scale is not None else settings.get("return_scale")
    if not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise RequestError(
            f"dataset.return_scale={'' if scale is None else scale} is missing or not above 0: returns are divided by "
            "it as in the model's training; set it with dataset.return_scale=<number>"
        )
    return float(scale)


def _statistics(
    spec: DatasetSpec, name: str, settings: Mapping[str, Any], environment: Environment
) -> tuple[float, ...]:
    values = getattr(spec, name) or settings.get(name)
    size = environment.state_size
    if not isinstance(values, list | tuple) or not values:
        raise RequestError(
            f"dataset.{name} is missing: states are normalised as in the model's training, and its config.json does "
            f"not say how; set dataset.{name}=[{size} numbers]"
        )
    if len(values) != size:
        raise RequestError(
            f"dataset.{name} has {len(values)} numbers, but observations of {spec.env} have {size}; give one for each"
        )
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise RequestError(f"dataset.{name}={list(values)} are not all numbers; give {size}")
    return tuple(float(value) for value in values)


def _episodes(spec: DatasetSpec, environment: Environment) -> tuple[Episode, ...]:
    if spec.path is None:
        if spec.episodes is None:
            raise RequestError(f"dataset={spec.name} does not say how many episodes; set dataset.episodes=<count>")
        if spec.first_seed < 0:
            raise RequestError(f"dataset.first_seed={spec.first_seed} is no seed; give 0 or more")
        return tuple(Episode(seed=spec.first_seed + place) for place in range(spec.episodes))
    rows = parse(read_rows(spec, COLUMNS), lambda number, row: [_recorded(row, environment)])
    made = list(rows)
    refuse_rows(spec.name, [one for one in made if isinstance(one, BadRow)])
    episodes = tuple(one for one in made if isinstance(one, Episode))
    seeds = [episode.seed for episode in episodes]
    if len(set(seeds)) < len(seeds):
        raise RequestError(f"dataset.path={spec.path} has a seed twice; give each episode its own")
    if spec.episodes is not None and spec.episodes > len(episodes):
        raise RequestError(
            f"dataset.episodes={spec.episodes} is more than the {len(episodes)} that dataset.path={spec.path} has; "
            "give less, or dataset.path=null to play without recorded actions"
        )
    return episodes[: spec.episodes]


def _recorded(row: Row, environment: Environment) -> Episode:
    seed = number_of(row, "seed")
    if seed != int(seed) or seed < 0:
        raise BadRowError(f"seed {row['seed']!r} is not a whole number of 0 or more")
    try:
        states = np.array(nested(row, "observations", list), dtype=np.float64)
        actions = np.array(nested(row, "actions", list), dtype=np.float32)
        rewards = np.array(nested(row, "rewards", list), dtype=np.float64)
    except ValueError as error:
        raise BadRowError(f"its steps are not numbers: {error}") from None
    if environment.discrete and actions.ndim == 1:
        if ((actions < 0) | (actions >= environment.action_size) | (actions % 1 != 0)).any():
            raise BadRowError(f"an action is none of the {environment.action_size} of the environment")
        actions = one_hot(actions.astype(np.int64), environment.action_size)
    steps = len(rewards)
    wanted = (steps, environment.state_size), (steps, environment.action_size)
    if steps == 0 or (states.shape, actions.shape) != wanted:
        raise BadRowError(
            f"observations {states.shape} and actions {actions.shape} do not fit {steps} rewards and the environment, "
            f"({environment.state_size} and {environment.action_size} numbers a step)"
        )
    return Episode(seed=int(seed), recorded=Recorded(states=states, actions=actions, rewards=rewards))
