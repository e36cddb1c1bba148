"""Environments of gymnasium, one episode at a time, with actions as vectors: the only module that imports it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from laser_sweep.errors import RequestError, listing, suggestion

if TYPE_CHECKING:
    import gymnasium

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentSpec:
    """An environment by its id at gymnasium; episodes are cut off after `max_steps`, None for its own limit."""

    id: str
    max_steps: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What came of an action. At the end of an episode `success` says whether the environment counts it as solved, None
    where it does not say."""

    observation: npt.NDArray[np.float64]
    reward: float
    done: bool
    success: bool | None = None


class Environment:
    """An environment whose observations are vectors, and whose actions are vectors or one of several.

    Of several, an action is the largest entry of the vector that the model gives, and what the model is told of it is
    one-hot; a vector is cut to the bounds of the environment, and the model is told what it gave. An episode is solved
    where the environment says so (`is_success`), or where its return reaches the `reward_threshold` of its id.

    Raises RequestError where gymnasium or what the environment needs is not installed, where it does not exist, and
    where its observations or actions are of another kind.
    """

    def __init__(self, spec: EnvironmentSpec) -> None:
        self._env = _make(spec)
        observed, acted = self._env.observation_space, self._env.action_space
        if getattr(observed, "shape", None) is None or len(observed.shape or ()) != 1:
            raise RequestError(f"dataset.env={spec.id} has observations {observed}; give one that observes vectors")
        box = getattr(acted, "low", None) is not None and len(acted.shape or ()) == 1
        if not box and not hasattr(acted, "n"):
            raise RequestError(f"dataset.env={spec.id} has actions {acted}; give one that acts by numbers or vectors")
        self.state_size = int((observed.shape or ())[0])
        self.discrete = not box
        self.action_size = int(acted.shape[0] if box and acted.shape else getattr(acted, "n", 0))
        self._first = int(getattr(acted, "start", 0))
        self._bounds = (getattr(acted, "low", None), getattr(acted, "high", None))
        registered = self._env.spec
        self.max_steps = None if registered is None else registered.max_episode_steps
        self._solved_at = None if registered is None else registered.reward_threshold
        self._return = 0.0

    def reset(self, seed: int) -> npt.NDArray[np.float64]:
        """Begins the episode of a seed and returns the first observation."""
        self._return = 0.0
        return np.asarray(self._env.reset(seed=seed)[0], dtype=np.float64)

    def step(self, vector: Vector) -> Step:
        """Acts as the vector says."""
        observation, reward, terminated, truncated, info = self._env.step(self._action(vector))
        self._return += float(reward)
        done = bool(terminated or truncated)
        return Step(
            np.asarray(observation, dtype=np.float64), float(reward), done, self._success(info) if done else None
        )

    def told(self, vectors: Vector) -> Vector:
        """How the model is told of the actions that it gave; (…, action size)."""
        return one_hot(vectors.argmax(axis=-1), self.action_size) if self.discrete else vectors

    def _action(self, vector: Vector) -> Any:
        if self.discrete:
            return self._first + int(vector.argmax())
        return np.clip(vector, *self._bounds).astype(self._env.action_space.dtype)

    def _success(self, info: dict[str, Any]) -> bool | None:
        if "is_success" in info:
            return bool(info["is_success"])
        return None if self._solved_at is None else self._return >= self._solved_at


def one_hot(places: npt.NDArray[np.int64], size: int) -> Vector:
    """(…) whole numbers -> (…, size)."""
    return np.eye(size, dtype=np.float32)[places]


def _make(spec: EnvironmentSpec) -> gymnasium.Env[Any, Any]:
    if find_spec("gymnasium") is None:
        raise RequestError("episodes are played in environments of gymnasium: pip install 'laser-sweep[rl]'")
    import gymnasium

    try:
        return gymnasium.make(spec.id, max_episode_steps=spec.max_steps, disable_env_checker=True)
    except gymnasium.error.UnregisteredEnv as error:
        near = suggestion(spec.id, gymnasium.registry)
        there = "" if near else f"; among those of gymnasium are {listing(_FAMILIAR)}"
        raise RequestError(f"dataset.env={spec.id} does not exist{near or f': {_one_line(error)}'}{there}") from None
    except (gymnasium.error.Error, ImportError) as error:
        raise RequestError(f"dataset.env={spec.id} cannot be opened: {_one_line(error)}") from None


_FAMILIAR = ("CartPole-v1", "Acrobot-v1", "Pendulum-v1", "Hopper-v5")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
