"""Episodes as a data set: what they are made of, and what is refused."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from laser_sweep.engine.tasks.environment import Environment, EnvironmentSpec
from laser_sweep.engine.tasks.example import AskedModel
from laser_sweep.engine.tasks.registry import check_family, load_task
from laser_sweep.engine.tasks.rollouts import Rollouts
from laser_sweep.engine.tasks.spec import DatasetSpec
from laser_sweep.errors import RequestError

CARTPOLE: dict[str, Any] = {"state_dim": 4, "act_dim": 2, "max_ep_len": 500}
SPEC = DatasetSpec(
    name="rollouts", format="rollouts", env="CartPole-v1", episodes=20, target_return=500.0, return_scale=100.0,
    context=8, state_mean=(0.0, 0.1, 0.2, 0.3), state_std=(1.0, 2.0, 3.0, 4.0),
)  # fmt: skip


def player(**settings: Any) -> AskedModel:
    return AskedModel("decision_transformer", lambda: pytest.fail("no tokenizer"), lambda: {**CARTPOLE, **settings})


def load(spec: DatasetSpec = SPEC, **settings: Any) -> Rollouts:
    task = load_task(spec, player(**settings))
    assert isinstance(task, Rollouts)
    return task


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return str(file)


def row(seed: int, steps: int = 3, **changes: Any) -> dict[str, Any]:
    states = np.arange(4.0 * steps).reshape(steps, 4) + seed
    return {
        "seed": seed, "observations": states.tolist(), "actions": [step % 2 for step in range(steps)],
        "rewards": [1.0] * steps, **changes,
    }  # fmt: skip


def test_episodes_are_numbered_by_seed_and_cut_into_val_and_test() -> None:
    task = load(replace(SPEC, first_seed=100))
    assert [episode.seed for episode in task.split("val")] == [100, 101, 102, 103]
    assert [episode.id for episode in task.split("test")] == [str(seed) for seed in range(104, 120)]
    assert all(episode.recorded is None for episode in task.examples)
    assert task.max_steps == 500
    assert task.tokens_an_episode == 500 * 8 * 3


def test_a_limit_draws_episodes_of_the_split() -> None:
    task = load()
    some, more = (task.split("test", limit, seed=0) for limit in (3, 9))
    assert {one.seed for one in some} < {one.seed for one in more} <= set(range(4, 20))


def test_what_the_data_set_leaves_open_the_model_says() -> None:
    spec = replace(SPEC, return_scale=None, context=None, state_mean=None, state_std=None)
    said = {"return_scale": 7.0, "context": 5, "state_mean": [1.0, 2.0, 3.0, 4.0], "state_std": [5.0, 6.0, 7.0, 8.0]}
    found = load(spec, **said).conditions
    assert (found.return_scale, found.context) == (7.0, 5)
    assert (found.state_mean, found.state_std) == ((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0))
    assert load(spec, **{**said, "context": None, "max_length": 9}).conditions.context == 9
    assert load(SPEC, **said).conditions.state_mean == SPEC.state_mean


def test_states_are_normalised() -> None:
    states = np.array([[1.0, 2.1, 3.2, 4.3]])
    np.testing.assert_allclose(load().conditions.normalised(states), [[1.0, 1.0, 1.0, 1.0]], rtol=1e-6)


CHANGES: tuple[dict[str, Any], ...] = (
    {"target_return": 400.0},
    {"return_scale": 50.0},
    {"context": 9},
    {"state_mean": (0.0, 0.1, 0.2, 0.4)},
    {"state_std": (1.0, 2.0, 3.0, 5.0)},
    {"max_steps": 100},
    {"first_seed": 1},
    {"episodes": 21},
    {"env": "CartPole-v0", "max_steps": 500},
)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_the_revision_changes_with_whatever_changes_returns(change: dict[str, Any]) -> None:
    assert load(replace(SPEC, **change)).revision != load().revision


def test_the_name_is_no_part_of_the_revision() -> None:
    assert load(replace(SPEC, name="other")).revision == load().revision


def test_recorded_episodes_come_from_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "taped.jsonl", [row(seed, steps=seed + 1) for seed in range(10, 24)])
    task = load(replace(SPEC, path=path, episodes=None))
    assert [episode.seed for episode in task.examples] == list(range(10, 24))
    first = task.examples[0].recorded
    assert first is not None
    assert first.states.tolist() == row(10, steps=11)["observations"]
    assert first.actions.tolist() == [[1.0, 0.0], [0.0, 1.0]] * 5 + [[1.0, 0.0]]
    assert first.rewards.tolist() == [1.0] * 11
    assert len(load(replace(SPEC, path=path, episodes=12)).examples) == 12


def test_the_revision_changes_with_a_recorded_step(tmp_path: Path) -> None:
    rows = [row(seed) for seed in range(12)]
    before = load(replace(SPEC, path=write(tmp_path / "a.jsonl", rows), episodes=None)).revision
    rows[5]["actions"] = [1, 1, 1]
    assert load(replace(SPEC, path=write(tmp_path / "b.jsonl", rows), episodes=None)).revision != before


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no environment": ({"env": None}, {}, r"^dataset\.env is missing; .* dataset\.env=<id>$"),
    "an unknown one": (
        {"env": "CartPole-v9"},
        {},
        r"^dataset\.env=CartPole-v9 does not exist .did you mean CartP",
    ),
    "one of no library": ({"env": "Chess"}, {}, r"^dataset\.env=Chess does not exist: .*CartPole-v1, Acrobot-v1"),
    "no target": (
        {"target_return": None},
        {},
        r"^dataset\.target_return is missing: .*target_return=<number>$",
    ),
    "no scale": ({"return_scale": None}, {}, r"^dataset\.return_scale= is missing .*dataset\.return_scale=<number>$"),
    "a scale of nothing": ({"return_scale": 0.0}, {}, r"^dataset\.return_scale=0\.0 is missing or not above 0"),
    "a scale of words": (
        {"return_scale": None},
        {"return_scale": "big"},
        r"^dataset\.return_scale=big is missing",
    ),
    "a context of words": (
        {"context": None},
        {"context": "all"},
        r"^the model's config\.json has context=all, .*<steps>",
    ),
    "a mean that is none": ({"state_mean": (0.0, math.nan, 0.0, 0.0)}, {}, r"^dataset\.state_mean=.* not all numbers"),
    "a mean of words": ({"state_mean": None}, {"state_mean": list("none")}, r"^dataset\.state_mean=.* not all numbers"),
    "a negative seed": ({"first_seed": -3}, {}, r"^dataset\.first_seed=-3 is no seed; give 0 or more$"),
    "no mean": ({"state_mean": None}, {}, r"^dataset\.state_mean is missing: .*dataset\.state_mean=\[4 numbers\]$"),
    "a short deviation": (
        {"state_std": (1.0, 2.0)},
        {},
        r"^dataset\.state_std has 2 numbers, .* CartPole-v1 have 4",
    ),
    "no deviation": ({"state_std": (1.0, 0.0, 1.0, 1.0)}, {}, r"^dataset\.state_std=\[1\.0, 0\.0.* not above 0$"),
    "another model": (
        {},
        {"state_dim": 11, "act_dim": 3},
        r"of 4 numbers and actions of 2, .* 11 and gives 3",
    ),
    "long episodes": (
        {},
        {"max_ep_len": 77},
        r"up to 500 steps, .* model knows 77; set dataset\.max_steps",
    ),
    "few episodes": (
        {"episodes": 9},
        {},
        r"has 9 episodes; .* takes 10 or more: set dataset\.episodes",
    ),
    "no number of them": ({"episodes": None}, {}, r"does not say how many episodes; set dataset\.episodes=<count>$"),
    "no file": ({"path": "./nowhere.parquet"}, {}, r"^dataset\.path=\./nowhere\.parquet is not a file; give a "),
    "pictures": ({"env": "FrozenLake-v1"}, {}, r"^dataset\.env=FrozenLake-v1 .*observ"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_in_one_line(name: str) -> None:
    changes, settings, message = WRONG[name]
    with pytest.raises(RequestError, match=message) as refused:
        load(replace(SPEC, **changes), **settings)
    assert "\n" not in str(refused.value)


BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 1.5}, "row 3: seed 1.5 is not a whole number"),
    "actions": ({"actions": [0, 2, 1]}, "row 3: an action is none of the 2 of the environment"),
    "observations": ({"observations": [[1.0] * 5] * 3}, r"row 3: observations \(3, 5\).* do not fit 3 rewards"),
    "rewards": ({"rewards": [1.0]}, "row 3: .* do not fit 1 rewards"),
    "ragged": ({"observations": [[1.0], [1.0, 2.0], []]}, "row 3: its steps are not numbers"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_named(name: str, tmp_path: Path) -> None:
    changes, message = BAD_ROWS[name]
    rows = [row(seed) | (changes if seed == 3 else {}) for seed in range(12)]
    with pytest.raises(RequestError, match=message):
        load(replace(SPEC, path=write(tmp_path / "bad.jsonl", rows), episodes=None))


def test_a_seed_that_stands_twice_and_more_episodes_than_there_are_are_refused(tmp_path: Path) -> None:
    rows = [row(seed) for seed in (*range(12), 5)]
    path = write(tmp_path / "twice.jsonl", rows)
    with pytest.raises(RequestError, match="has a seed twice"):
        load(replace(SPEC, path=path, episodes=None))
    path = write(tmp_path / "once.jsonl", rows[:-1])
    with pytest.raises(RequestError, match=r"^dataset\.episodes=13 is more than the 12 that .*dataset\.path=null"):
        load(replace(SPEC, path=path, episodes=13))


def test_without_gymnasium_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(RequestError, match=r"^episodes are played in .*: pip install 'laser-sweep\[rl\]'$"):
        load()


def test_models_and_data_sets_of_other_kinds_do_not_meet() -> None:
    with pytest.raises(RequestError, match=r"plays episodes, but model=gptj .* model=decision_transformer$"):
        check_family(SPEC, "causal", "gptj")
    demo = DatasetSpec(name="demo", format="prompt_answer")
    with pytest.raises(RequestError, match=r"but model=dt plays episodes; give dataset=rollouts$"):
        check_family(demo, "decision_transformer", "dt")


class _Counter(gymnasium.Env[Any, Any]):
    """Observes how often it was stepped; actions are vectors up to 1 long, or one of three from 5 on."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))

    def __init__(self, discrete: bool = False) -> None:
        self.action_space = gymnasium.spaces.Discrete(3, start=5) if discrete else gymnasium.spaces.Box(-1, 1, (2,))

    def reset(self, **options: Any) -> Any:
        self.acted: list[Any] = []
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        self.acted.append(action)
        done = len(self.acted) == 2
        return np.array([len(self.acted)]), 0.5, done, False, {"is_success": True} if done else {}


@pytest.fixture
def counters() -> Iterator[None]:
    for name, discrete in (("Vector-v0", False), ("Choice-v0", True)):
        gymnasium.register(name, entry_point=lambda discrete=discrete: _Counter(discrete), reward_threshold=100.0)
    yield
    for name in ("Vector-v0", "Choice-v0"):
        gymnasium.registry.pop(name)


@pytest.mark.usefixtures("counters")
def test_a_vector_is_cut_to_bounds_and_told_as_it_was_given() -> None:
    environment = Environment(EnvironmentSpec(id="Vector-v0"))
    given = np.array([3.0, -0.5], dtype=np.float32)
    environment.reset(0)
    environment.step(given)
    assert environment._env.unwrapped.acted[0].tolist() == [1.0, -0.5]
    assert environment.told(given[None]).tolist() == [[3.0, -0.5]]
    assert (environment.state_size, environment.action_size, environment.max_steps) == (1, 2, None)


@pytest.mark.usefixtures("counters")
def test_of_several_actions_the_largest_entry_is_taken_and_told_one_hot() -> None:
    environment = Environment(EnvironmentSpec(id="Choice-v0", max_steps=9))
    given = np.array([0.1, 0.7, 0.6], dtype=np.float32)
    environment.reset(0)
    environment.step(given)
    assert environment._env.unwrapped.acted == [6]
    assert environment.told(given[None]).tolist() == [[0.0, 1.0, 0.0]]
    assert (environment.action_size, environment.max_steps) == (3, 9)


@pytest.mark.usefixtures("counters")
def test_what_an_environment_says_of_success_counts_before_its_threshold() -> None:
    environment = Environment(EnvironmentSpec(id="Vector-v0"))
    environment.reset(0)
    steps = [environment.step(np.zeros(2, dtype=np.float32)) for _ in range(2)]
    assert [(step.reward, step.done, step.success) for step in steps] == [(0.5, False, None), (0.5, True, True)]
