from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import DecisionTransformerModel

from laser_sweep.engine.editing.editor import Editor
from laser_sweep.engine.evaluation.rollouts import Played
from laser_sweep.engine.models.layout import find_layout
from laser_sweep.engine.tasks.rollouts import Conditions, Episode, Recorded
from laser_sweep.trial import Edit, Matrix

from ..players import CONTEXT, conditions, play_alone, tiny

SEEDS = tuple(range(3, 16))
WORLDS = {"CartPole-v1": (4, 2, 80), "Pendulum-v1": (3, 1, 25)}  # states, actions, steps

World = tuple[DecisionTransformerModel, Conditions]


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    states, actions, steps = WORLDS[request.param]
    return tiny(states, actions), conditions(request.param, states, steps)


def played(world: World, rows: int = 64, episodes: tuple[Episode, ...] = ()) -> Played:
    model, told = world
    given = episodes or tuple(Episode(seed=seed) for seed in SEEDS)
    return Played(model, told, given, batch_tokens=rows * 3 * CONTEXT)


def test_episodes_side_by_side_go_as_each_goes_alone(world: World) -> None:
    metrics, episodes = played(world).measure()
    alone = [play_alone(*world, seed) for seed in SEEDS]
    assert episodes.example_id == tuple(map(str, SEEDS))
    assert episodes.lengths.tolist() == [one.steps for one in alone]
    np.testing.assert_allclose(episodes.returns, [one.total for one in alone], rtol=1e-4)
    assert metrics.num_examples == len(SEEDS)
    assert metrics.mean_return == pytest.approx(np.mean([one.total for one in alone]), rel=1e-4)
    expected = np.std([one.total for one in alone], ddof=1) / np.sqrt(len(SEEDS))
    assert metrics.return_stderr == pytest.approx(expected, rel=1e-3)


def test_episodes_of_one_model_differ(world: World) -> None:
    """Else the tests here would show little."""
    returns = played(world).measure()[1].returns
    assert len(set(np.round(returns, 6))) > len(SEEDS) / 3


@pytest.mark.parametrize("rows", [1, 2, 5, 13])
def test_returns_do_not_depend_on_how_many_episodes_run_side_by_side(world: World, rows: int) -> None:
    expected = played(world).measure()[1]
    found = played(world, rows=rows).measure()[1]
    np.testing.assert_array_equal(found.returns, expected.returns)
    np.testing.assert_array_equal(found.lengths, expected.lengths)


def test_an_episode_goes_the_same_whichever_others_run_beside_it(world: World) -> None:
    everything = played(world).measure()[1]
    some = played(world, episodes=tuple(Episode(seed=seed) for seed in SEEDS[::4])).measure()[1]
    np.testing.assert_array_equal(some.returns, everything.returns[::4])


def test_asking_twice_gives_the_same_returns(world: World) -> None:
    one = played(world)
    np.testing.assert_array_equal(one.measure()[1].returns, one.measure()[1].returns)


def test_the_model_is_told_what_is_left_to_get(world: World) -> None:
    model, told = world
    other = conditions(told.env.id, model.config.state_dim, told.env.max_steps or 0, target_return=-500.0)
    before, after = (played((model, one)).measure()[1].returns for one in (told, other))
    assert (before != after).any()


def test_an_edit_changes_returns_and_its_end_brings_every_bit_back(world: World) -> None:
    model, _ = world
    bits = {name: weight.clone() for name, weight in model.state_dict().items()}
    before = played(world).measure()[1].returns
    editor = Editor(find_layout(model))
    with editor.applied((Edit(matrix=Matrix("fc_in", 0), rho=0.05), Edit(matrix=Matrix("q_proj", 1), rho=0.1))):
        during = played(world).measure()[1].returns
    assert (during != before).any()
    np.testing.assert_array_equal(played(world).measure()[1].returns, before)
    assert all(torch.equal(weight, bits[name]) for name, weight in model.state_dict().items())


def recorded(seed: int, steps: int, states: int, actions: int) -> Episode:
    random = np.random.default_rng(seed)
    made = Recorded(
        states=random.normal(0, 1, (steps, states)),
        actions=random.normal(0, 1, (steps, actions)).astype(np.float32),
        rewards=random.normal(0, 1, steps),
    )
    return Episode(seed=seed, recorded=made)


@torch.no_grad()
def error_of(world: World, episode: Episode) -> float:
    """Each step on its own, from the steps of its stretch before it, without any padding."""
    model, told = world
    taped = episode.recorded
    assert taped is not None
    states = torch.tensor((taped.states - np.array(told.state_mean)) / np.array(told.state_std)).float()
    errors = []
    for step in range(len(taped.rewards)):
        first = step - step % told.context
        to_go = [taped.rewards[place:].sum() / told.return_scale for place in range(first, step + 1)]
        actions = torch.tensor(taped.actions[first : step + 1]).clone()
        actions[-1] = 0.0  # what is to be predicted
        predicted = model(
            states=states[None, first : step + 1],
            actions=actions[None],
            rewards=None,
            returns_to_go=torch.tensor(to_go, dtype=torch.float32)[None, :, None],
            timesteps=torch.arange(first, step + 1)[None],
            attention_mask=torch.ones(1, step + 1 - first),
        ).action_preds[0, -1]
        errors.append(((predicted - torch.tensor(taped.actions[step])) ** 2).mean().item())
    return float(np.mean(errors))


@pytest.mark.parametrize("rows", [2, 64])
def test_the_action_error_is_that_of_each_recorded_step_from_those_before_it(world: World, rows: int) -> None:
    model, _ = world
    sizes = model.config.state_dim, model.config.act_dim
    given = tuple(recorded(seed, steps, *sizes) for seed, steps in ((1, 11), (2, 3), (3, 8)))
    metrics, episodes = played(world, rows, given).measure()
    expected = [error_of(world, episode) for episode in given]
    np.testing.assert_allclose(episodes.action_error, expected, rtol=1e-4)
    assert metrics.action_error == pytest.approx(np.mean(expected), rel=1e-4)
    assert metrics.loss == metrics.action_error


def test_without_recorded_actions_there_is_no_action_error(world: World) -> None:
    metrics, episodes = played(world).measure()
    assert metrics.action_error is None
    assert np.isnan(episodes.action_error).all()


def test_actions_that_are_not_finite_are_refused(world: World) -> None:
    model, told = world
    spoilt = tiny(model.config.state_dim, model.config.act_dim)
    spoilt.predict_action[0].bias.data[0] = float("nan")
    with pytest.raises(ValueError, match=f"^the actions of {len(SEEDS)} episodes are not finite$"):
        played((spoilt, told)).measure()


def test_one_episode_has_a_return_without_an_error() -> None:
    world = tiny(4, 2), conditions("CartPole-v1", 4, 20)
    metrics, _ = played(world, episodes=(Episode(seed=1),)).measure()
    assert (metrics.num_examples, metrics.return_stderr) == (1, None)


def test_a_model_in_half_precision_plays_too() -> None:
    world = tiny(4, 2).to(torch.bfloat16), conditions("CartPole-v1", 4, 20)
    assert played(world).measure()[0].mean_return is not None


@pytest.mark.parametrize(
    ("env", "states", "actions", "solved"), [("CartPole-v1", 4, 2, 475.0), ("Pendulum-v1", 3, 1, None)]
)
def test_success_is_a_return_that_reaches_the_threshold_of_the_environment(
    env: str, states: int, actions: int, solved: float | None
) -> None:
    metrics, episodes = played((tiny(states, actions), conditions(env, states, 30))).measure()
    if solved is None:
        assert metrics.success_rate is None
        assert episodes.success is None
    else:
        assert episodes.success is not None
        assert episodes.success.tolist() == (episodes.returns >= solved).tolist()
        assert metrics.success_rate == 0.0
