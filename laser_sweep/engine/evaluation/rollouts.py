"""A Decision Transformer that plays episodes (Chen et al. 2021, arXiv 2106.01345)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from laser_sweep.engine.evaluation.asked import Budget
from laser_sweep.engine.evaluation.batches import halved_when_full
from laser_sweep.engine.evaluation.directions import Directions
from laser_sweep.engine.tasks.environment import Environment, Step
from laser_sweep.engine.tasks.rollouts import TOKENS_A_STEP, Conditions, Episode, Recorded, Rollouts
from laser_sweep.probe import Slopes
from laser_sweep.trial import Episodes, Evaluation, Matrix, Metrics


class DecisionModel:
    """A model that is told a return to get, and acts."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def asked(self, task: Rollouts, evaluation: Evaluation, budget: Budget) -> Played:
        episodes = task.split(evaluation.split, evaluation.limit, evaluation.seed)
        return Played(self._model, task.conditions, episodes, batch_tokens=budget.batch_tokens)

    def slopes(
        self, task: Rollouts, evaluation: Evaluation, directions: Mapping[Matrix, Directions], budget: Budget
    ) -> Mapping[Matrix, Slopes]:
        raise ValueError("the return of episodes has no gradient")


class Played:
    """Episodes of one evaluation, as many side by side as `batch_tokens` has room for.

    At each step the model acts in all episodes that go on, in one pass. Nothing that an edit leaves as it is can be
    kept for it: the states of an episode depend on all actions before.
    """

    def __init__(
        self, model: PreTrainedModel, conditions: Conditions, episodes: Sequence[Episode], *, batch_tokens: int
    ) -> None:
        self._model = model
        self._conditions = conditions
        self._episodes = episodes
        self._rows = max(1, batch_tokens // (TOKENS_A_STEP * conditions.context))
        self._environments: list[Environment] = []

    def prepare(self, layer: int) -> None:
        """Nothing: every pass is a whole one."""

    def release(self) -> None:
        """Nothing is kept."""

    @torch.inference_mode()
    def measure(self, *, keep_attention: bool = True) -> tuple[Metrics, Episodes]:
        """Plays all episodes. Raises ValueError where the model's actions are not finite, as after an overflow."""
        ends: dict[int, _End] = {}

        def play(places: range) -> None:
            ends.update(zip(places, self._play([self._episodes[place] for place in places]), strict=True))

        count = len(self._episodes)
        batches = [range(start, min(start + self._rows, count)) for start in range(0, count, self._rows)]
        halved_when_full(batches, play, lambda places: (places[: len(places) // 2], places[len(places) // 2 :]))
        ordered = [ends[place] for place in range(count)]
        success = [end.success for end in ordered if end.success is not None]
        episodes = Episodes(
            example_id=tuple(episode.id for episode in self._episodes),
            target_return=self._conditions.target_return,
            returns=np.array([end.total for end in ordered]),
            lengths=np.array([end.steps for end in ordered]),
            success=np.array(success) if len(success) == count else None,
            action_error=self._action_errors(),
        )
        return summarise_episodes(episodes), episodes

    def _play(self, episodes: Sequence[Episode]) -> list[_End]:
        """Plays episodes side by side from their first step to the end of the longest."""
        while len(self._environments) < len(episodes):
            self._environments.append(Environment(self._conditions.env))
        environments = self._environments[: len(episodes)]
        asked = self._conditions
        ends = [_End() for _ in episodes]
        window = _Window(self._model, asked, len(episodes))
        observed = [one.reset(episode.seed) for one, episode in zip(environments, episodes, strict=True)]
        to_go = np.full(len(episodes), asked.target_return / asked.return_scale, dtype=np.float32)
        running = list(range(len(episodes)))
        time = 0
        while running:
            window.see(asked.normalised(np.stack(observed)), to_go, time)
            vectors = window.act()
            spoilt = ~np.isfinite(vectors).all(axis=1)
            if spoilt.any():
                raise ValueError(f"the actions of {int(spoilt.sum())} episodes are not finite")
            window.tell(environments[0].told(vectors))
            steps = [environments[place].step(vectors[row]) for row, place in enumerate(running)]
            for place, step in zip(running, steps, strict=True):
                ends[place].add(step)
            going = [row for row, step in enumerate(steps) if not step.done]
            rewards = np.array([steps[row].reward / asked.return_scale for row in going], dtype=np.float32)
            to_go = to_go[going] - rewards
            observed = [steps[row].observation for row in going]
            running = [running[row] for row in going]
            window.keep(going)
            time += 1
        return ends

    def _action_errors(self) -> npt.NDArray[np.float64]:
        """The mean squared error (episodes,) of the model's actions at the steps of recorded episodes, nan without one.

        An episode is cut into stretches of `context` steps, as in training: an action is predicted from the steps of
        its stretch up to its own, with the return that the recorded policy got from there on.
        """
        errors = np.full(len(self._episodes), np.nan)
        stretches: list[tuple[int, _Stretch]] = []
        for place, episode in enumerate(self._episodes):
            if episode.recorded is not None:
                stretches += [(place, one) for one in _stretches(episode.recorded, self._conditions)]
        sums = np.zeros(len(self._episodes))

        def add(part: list[tuple[int, _Stretch]]) -> None:
            for (place, _), error in zip(part, self._squared_errors([one for _, one in part]), strict=True):
                sums[place] += error

        batches = [stretches[start : start + self._rows] for start in range(0, len(stretches), self._rows)]
        halved_when_full(batches, add, lambda part: (part[: len(part) // 2], part[len(part) // 2 :]))
        for place, episode in enumerate(self._episodes):
            if episode.recorded is not None:
                errors[place] = sums[place] / episode.recorded.actions.size
        return errors

    def _squared_errors(self, stretches: Sequence[_Stretch]) -> list[float]:
        """The sum of squared errors over the steps and entries of each stretch."""
        context, device, dtype = self._conditions.context, self._model.device, self._model.dtype

        def padded(values: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.stack([_padded(one, context) for one in values]).to(device)

        mask = padded([torch.ones(one.steps, 1) for one in stretches])  # (stretches, context, 1)
        actions = padded([one.actions for one in stretches])
        predicted = self._model(
            states=padded([one.states for one in stretches]).to(dtype),
            actions=actions.to(dtype),
            rewards=None,
            returns_to_go=padded([one.to_go for one in stretches]).to(dtype),
            timesteps=padded([one.times for one in stretches])[..., 0],
            attention_mask=mask[..., 0],
        ).action_preds
        squared = ((predicted.double() - actions.double()) ** 2 * mask).sum(dim=(1, 2))
        found: list[float] = squared.cpu().tolist()
        return found


@dataclass(slots=True)
class _End:
    """How an episode has gone so far."""

    total: float = 0.0
    steps: int = 0
    success: bool | None = None

    def add(self, step: Step) -> None:
        self.total += step.reward
        self.steps += 1
        self.success = step.success


class _Window:
    """The last `context` steps of episodes that go on together, with zeros on the left, which a mask hides."""

    def __init__(self, model: PreTrainedModel, conditions: Conditions, episodes: int) -> None:
        self._model = model
        self._context = conditions.context
        sizes = {"states": model.config.state_dim, "actions": model.config.act_dim, "to_go": 1}
        self._seen = {
            name: torch.zeros(episodes, self._context, size, dtype=model.dtype, device=model.device)
            for name, size in sizes.items()
        }
        self._time = 0

    def see(self, states: npt.NDArray[np.float32], to_go: npt.NDArray[np.float32], time: int) -> None:
        """Takes in states (episodes, state size) and returns-to-go (episodes,) of a step; its action is zero as yet."""
        new = {"states": torch.from_numpy(states), "to_go": torch.from_numpy(to_go)[:, None]}
        for name, seen in self._seen.items():
            last = torch.zeros_like(seen[:, 0]) if name == "actions" else new[name].to(seen)
            self._seen[name] = torch.cat([seen[:, 1:], last[:, None]], dim=1)
        self._time = time

    def act(self) -> npt.NDArray[np.float32]:
        """The model's actions for the last step (episodes, action size)."""
        rows, device = len(self._seen["states"]), self._model.device
        known = min(self._time + 1, self._context)
        mask = torch.zeros(self._context, device=device)
        mask[self._context - known :] = 1
        times = torch.arange(self._time + 1 - self._context, self._time + 1, device=device).clamp(min=0)
        output = self._model(
            states=self._seen["states"],
            actions=self._seen["actions"],
            rewards=None,
            returns_to_go=self._seen["to_go"],
            timesteps=times.expand(rows, -1),
            attention_mask=mask.expand(rows, -1),
        )
        actions: npt.NDArray[np.float32] = output.action_preds[:, -1].float().cpu().numpy()
        return actions

    def tell(self, actions: npt.NDArray[np.float32]) -> None:
        """Says what was done in the last step."""
        self._seen["actions"][:, -1] = torch.from_numpy(actions).to(self._seen["actions"])

    def keep(self, rows: Sequence[int]) -> None:
        """Lets the other episodes go, which have ended."""
        self._seen = {name: seen[rows] for name, seen in self._seen.items()}


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Neighbouring steps of a recorded episode, as the model reads them; each (steps, size)."""

    states: torch.Tensor
    actions: torch.Tensor
    to_go: torch.Tensor
    times: torch.Tensor

    @property
    def steps(self) -> int:
        return len(self.times)


def _stretches(recorded: Recorded, conditions: Conditions) -> list[_Stretch]:
    states = torch.from_numpy(conditions.normalised(recorded.states))
    to_go = np.cumsum(recorded.rewards[::-1])[::-1] / conditions.return_scale
    columns = (
        states,
        torch.from_numpy(recorded.actions),
        torch.from_numpy(to_go.astype(np.float32))[:, None],
        torch.arange(len(to_go))[:, None],
    )
    parts = zip(*(column.split(conditions.context) for column in columns), strict=True)
    return [_Stretch(*part) for part in parts]


def _padded(values: torch.Tensor, length: int) -> torch.Tensor:
    """(steps, size) -> (length, size), with zeros on the left."""
    return functional.pad(values, (0, 0, length - len(values), 0))


def summarise_episodes(episodes: Episodes) -> Metrics:
    """Means over the episodes; the standard error of the return is sd / √n, None for one episode."""
    count = len(episodes.returns)
    error = float(episodes.action_error.mean())
    return Metrics(
        num_examples=count,
        mean_return=float(episodes.returns.mean()),
        return_stderr=float(episodes.returns.std(ddof=1)) / math.sqrt(count) if count > 1 else None,
        action_error=None if math.isnan(error) else error,
        success_rate=None if episodes.success is None else float(episodes.success.mean()),
    )
