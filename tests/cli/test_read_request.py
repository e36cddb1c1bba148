"""A composed configuration becomes typed values, or one line that says what is wrong with it."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import typing
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import TypeAdapter

from laser_sweep.cli import CONF
from laser_sweep.config import Request, read_request, setting_names, shared_settings
from laser_sweep.errors import RequestError
from laser_sweep.sweep.search.spec import SPECS


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        config = compose("config", overrides=["dataset=fever", "tracking=wandb", "guard=fever", *overrides])
    values = OmegaConf.to_container(config)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


BASES = {name: composed(f"search={name}") for name in SPECS}


def request(*, base: str = "grid", **changes: Any) -> Request:
    """The request of the base configuration, with the search `base`, with changed keys; `__` stands for a dot."""
    values = copy.deepcopy(BASES[base])
    for name, value in changes.items():
        *groups, key = name.split("__")
        place = values
        for group in groups:
            place = place[group]
        place[key] = value
    return read_request(OmegaConf.create(values))


def refusal(**changes: Any) -> str:
    with pytest.raises(RequestError) as caught:
        request(**changes)
    return str(caught.value)


def test_axes_are_tuples_whether_given_as_a_value_or_as_a_list() -> None:
    one = request(tau="mlp", layer=-1, rho=1).question.axes
    assert (one.tau, one.layer, one.rho) == (("mlp",), (-1,), (1.0,))
    assert isinstance(one.rho[0], float)
    many = request(tau=["fc_in", "each"], layer=[0, "last", "each", "all"], rho=[0, 0.5]).question.axes
    assert (many.tau, many.layer, many.rho) == (("fc_in", "each"), (0, "last", "each", "all"), (0.0, 0.5))


def test_every_group_becomes_the_type_of_its_owner() -> None:
    read = request(
        evaluation__limit=7,
        evaluation__split="all",
        cluster__workers=3,
        cluster__gpus_per_worker=0.25,
        cluster__env={"A": "b"},
        resume="errored",
        dry_run=True,
        seed=5,
    )
    assert read.settings.evaluation.limit == 7
    assert read.settings.evaluation.search_splits == ("val", "test")
    assert (read.settings.cluster.workers, read.settings.cluster.gpus_per_worker) == (3, 0.25)
    assert dict(read.settings.cluster.env) == {"A": "b"}
    assert (read.settings.resume, read.settings.dry_run, read.settings.seed) == ("errored", True, 5)
    assert read.question.dataset.hub is not None
    assert read.question.dataset.hub.files == ("v1.0/paper_dev/*.parquet", "v1.0/paper_test/*.parquet")


def test_the_randomised_method_draws_with_the_seed_of_the_sweep() -> None:
    options = {"power_iterations": 2, "seed": "${seed}"}
    changes = {"intervention__method": "randomized", "intervention__options": options}
    assert request(**changes, seed=5).question.intervention.options == {"power_iterations": 2, "seed": 5}


def test_an_option_that_is_no_single_value_is_refused_by_the_key_that_was_set() -> None:
    assert refusal(intervention__options={"power_iterations": [1]}).startswith("intervention.options.power_iterations=")


def test_a_sweep_is_named_after_its_model_and_data_set_unless_it_has_a_name() -> None:
    assert request().question.sweep == "demo-fever"
    assert request(sweep="night").question.sweep == "night"


def test_both_members_of_a_union_are_taken_and_a_third_is_refused() -> None:
    assert request(cluster__workers="auto").settings.cluster.workers == "auto"
    assert request(cluster__workers=2).settings.cluster.workers == 2
    message = refusal(cluster__workers="many")
    assert message.startswith("cluster.workers=many")
    assert "integer" in message
    assert "'auto'" in message
    assert request(dataset__hub=None).question.dataset.hub is None
    assert refusal(dataset__hub=3).startswith("dataset.hub=3")


@pytest.mark.parametrize("axis", ["tau", "layer", "rho"])
@pytest.mark.parametrize("nothing", [[], None])
def test_an_axis_without_values_is_refused_with_an_example(axis: str, nothing: Any) -> None:
    message = refusal(**{axis: nothing})
    assert message.startswith(f"{axis}=")
    assert f"e.g. {axis}=[" in message


@pytest.mark.parametrize(
    ("changes", "unknown", "meant"),
    [
        ({"rhoo": 0.1}, "rhoo", None),
        ({"resum": "auto"}, "resum", "resume"),
        ({"evaluation__limt": 3}, "evaluation.limt", "limit"),
        ({"dataset__hub__revison": "x"}, "dataset.hub.revison", "revision"),
        ({"cluster__gpu_per_worker": 1}, "cluster.gpu_per_worker", "gpus_per_worker"),
    ],
)
def test_an_unknown_key_is_refused_at_any_depth_with_the_nearest_known_one(
    changes: dict[str, Any], unknown: str, meant: str | None
) -> None:
    message = refusal(**changes)
    assert message.startswith(f"{unknown} is not a setting")
    if meant is not None:
        assert f"did you mean {meant}?" in message


def test_a_key_nearly_like_an_axis_suggests_the_axis() -> None:
    assert "did you mean rho?" in refusal(rhoo=0.1)


def test_a_missing_key_is_named_with_the_override_that_sets_it() -> None:
    values = copy.deepcopy(BASES["grid"])
    del values["model"]["path"]
    with pytest.raises(RequestError, match=r"^model\.path is missing; set it with model\.path="):
        read_request(OmegaConf.create(values))


def test_a_variable_that_is_not_set_is_named_with_its_key() -> None:
    message = refusal(seed="${oc.env:LASER_SWEEP_NOT_SET}")
    assert message.startswith("seed: ")
    assert "LASER_SWEEP_NOT_SET" in message
    assert "\n" not in message


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=4).filter(lambda text: "$" not in text), min_size=1))
def test_what_workers_get_in_their_environment_is_never_stored(secrets: dict[str, str]) -> None:
    secrets = {key.replace(".", "_"): f"secret-{value}" for key, value in secrets.items()}
    read = request(cluster__env=secrets)
    assert dict(read.settings.cluster.env) == secrets
    stored = json.loads(read.question.config_json)
    assert "env" not in stored["cluster"]
    assert "secret-" not in read.question.config_json
    assert stored["cluster"]["workers"] == "auto"  # the rest of the group is


def test_the_stored_configuration_is_the_whole_of_it_but_for_secrets() -> None:
    read = request(rho=[0.01, 0.5])
    stored = json.loads(read.question.config_json)
    expected = OmegaConf.to_container(OmegaConf.create({**BASES["grid"], "rho": [0.01, 0.5]}), resolve=True)
    assert isinstance(expected, dict)
    del expected["cluster"]["env"]
    assert stored == expected
    assert request(rho=[0.01, 0.5], cluster__env={"A": "b"}).question.config_json == read.question.config_json


def test_a_model_and_a_data_set_without_a_name_are_called_like_their_files() -> None:
    nameless = {"model__name": None, "dataset__name": None}
    named = request(**nameless, model__path="EleutherAI/pythia-70m", dataset__path="/data/my.prompts.jsonl").question
    assert (named.model.name, named.dataset.name, named.sweep) == ("pythia-70m", "my.prompts", "pythia-70m-my.prompts")
    local = request(model__name=None, model__path="/models/mine/").question
    assert local.model.name == "mine"


def test_the_stored_configuration_names_the_model_as_the_results_do() -> None:
    question = request(model__name=None, model__path="EleutherAI/pythia-70m").question
    assert json.loads(question.config_json)["model"]["name"] == question.model.name


def test_settings_of_the_whole_sweep_cannot_differ_between_its_jobs() -> None:
    requests = [request(), request(rho=0.5, seed=3, evaluation__limit=9)]
    assert shared_settings(requests) == requests[0].settings
    with pytest.raises(RequestError, match=r"store.*a.*b"):
        shared_settings([request(store__path="a"), request(store__path="b")])
    with pytest.raises(RequestError, match=r"resume.*auto.*never"):
        shared_settings([request(resume="auto"), request(resume="never")])


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10),
    st.integers(),
    st.floats(),
    st.text(max_size=8).filter(lambda text: "$" not in text),
    st.sampled_from(["each", "all", "last", "auto", "mlp", "fc_in", "local", "val", "0.1", "1", "true", "nan"]),
)
AXIS_JUNK = JUNK | st.lists(JUNK, max_size=3) | st.lists(st.lists(JUNK, max_size=1), min_size=1, max_size=1)
KEYS = sorted(
    name
    for name in setting_names()
    if name not in ("model", "dataset", "intervention", "evaluation", "cluster", "tracking", "store")
)


def names(message: str, value: Any) -> bool:
    """Whether a message shows a value: white space in it as another, what does not print written out, and a number as
    it was read."""
    if value is None or value == []:
        return True
    ways = [str(value), str(value).lower()] if isinstance(value, bool) else [str(value)]
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        ways += [str(int(float(value))), str(float(value))]
    ways = ["".join(one if one.isprintable() or one.isspace() else repr(one)[1:-1] for one in way) for way in ways]
    return any("".join(way.split()) in "".join(message.split()) for way in ways)


@settings(max_examples=200, deadline=None)
@given(axis=st.sampled_from(["tau", "layer", "rho"]), value=AXIS_JUNK)
@example(axis="rho", value=float("nan"))
@example(axis="rho", value=True)
@example(axis="layer", value=True)
@example(axis="rho", value=-0.0)
def test_any_value_of_an_axis_is_taken_as_it_is_or_refused_by_name(axis: str, value: Any) -> None:
    values = value if isinstance(value, list) else [value]
    try:
        axes = request(**{axis: value}).question.axes
    except RequestError as error:
        message = str(error)
        assert message.startswith(f"{axis}=")
        assert not values or any(names(message, entry) for entry in values)
    else:
        taken = getattr(axes, axis)
        assert list(taken) == values
        if axis == "rho":
            assert all(
                0 <= entry <= 1 and not isinstance(given, bool) for entry, given in zip(taken, values, strict=True)
            )
        if axis == "layer":
            assert all(type(entry) in (int, str) for entry in taken)
            assert {entry for entry in taken if isinstance(entry, str)} <= {"each", "all", "last"}


def test_a_whole_number_beyond_all_floats_is_no_rho() -> None:
    assert refusal(rho=10**400).startswith("rho=1000")


@settings(max_examples=250, deadline=None)
@given(key=st.sampled_from([key for key in KEYS if key not in ("tau", "layer", "rho")]), value=JUNK)
def test_any_value_of_any_setting_is_read_or_refused_by_name_in_one_line(key: str, value: Any) -> None:
    setting = key.removeprefix("search.")
    search = next((name for name, spec in SPECS.items() if setting in typing.get_type_hints(spec)), "grid")
    try:
        read = request(base=search, **{key.replace(".", "__"): value})
    except RequestError as error:
        message = str(error)
        assert message.startswith(key)
        assert names(message, value)
        assert "\n" not in message
        return
    taken: Any = read.settings
    for part in key.split("."):
        hint = typing.get_type_hints(type(taken))[part]
        taken = getattr(taken, part)
    TypeAdapter(hint).validate_python(taken, strict=True)


@pytest.mark.parametrize("key", ["tau", "layer", "rho", "resume"])
def test_a_value_of_several_lines_is_refused_in_one_line(key: str) -> None:
    assert "\n" not in refusal(**{key: "fc\nin"})


@pytest.mark.parametrize(
    "key",
    ["evaluation.limit", "evaluation.test_limit", "evaluation.batch_tokens", "cluster.workers", "seed"],
)
def test_true_is_no_number(key: str) -> None:
    assert refusal(**{key.replace(".", "__"): True}).startswith(f"{key}=")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_share_of_a_gpu_is_a_finite_number(value: float) -> None:
    assert refusal(cluster__gpus_per_worker=value).startswith("cluster.gpus_per_worker=")


@pytest.mark.parametrize(
    "key", ["evaluation.limit", "evaluation.batch_tokens", "cluster.workers", "cluster.max_attempts"]
)
@pytest.mark.parametrize("value", [0, -3])
def test_counts_below_one_are_refused(key: str, value: int) -> None:
    assert refusal(**{key.replace(".", "__"): value}).startswith(f"{key}={value} ")
