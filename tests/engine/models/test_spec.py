from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.engine.models.spec import ModelSpec, read_roles
from laser_sweep.errors import RequestError
from laser_sweep.trial import TAUS

CHOICE = f"choose from {', '.join(TAUS)}"
NAMES = st.text("abcxyz_.0123456789", min_size=1)


@given(names=st.lists(NAMES, unique=True, min_size=1, max_size=6), draw=st.data())
def test_roles_that_mean_the_same_are_the_same_key(names: list[str], draw: st.DataObject) -> None:
    roles: dict[str, list[str]] = {}
    for name in names:
        roles.setdefault(draw.draw(st.sampled_from(TAUS)), []).append(name)
    shuffled = {tau: draw.draw(st.permutations(roles[tau])) * 2 for tau in draw.draw(st.permutations(sorted(roles)))}
    one, other = (ModelSpec(name="m", path="p", roles=read_roles(given)) for given in (roles, shuffled))
    assert one == other
    assert hash(one) == hash(other)
    assert {tau: set(endings) for tau, endings in one.roles} == {tau: set(endings) for tau, endings in roles.items()}


def test_one_ending_needs_no_list_and_no_roles_are_none() -> None:
    assert read_roles({"fc_out": "w2", "fc_in": ["w1"]}) == (("fc_in", ("w1",)), ("fc_out", ("w2",)))
    assert read_roles({}) == ModelSpec(name="m", path="p").roles == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fc_inn": ["w1"]}, f"model.roles.fc_inn is no matrix type (did you mean fc_in?); {CHOICE}"),
        ({"mlp": ["w1"]}, f"model.roles.mlp is no matrix type; {CHOICE}"),
        ({1: ["w1"]}, f"model.roles.1 is no matrix type; {CHOICE}"),
        ("w1", "model.roles=w1 does not say which matrix is which; give e.g. +model.roles.fc_in=[w1]"),
        (None, "model.roles=None does not say which matrix is which; give e.g. +model.roles.fc_in=[w1]"),
        (
            {"fc_in": ["w1", "w2"], "fc_up": ["w2"]},
            "model.roles.fc_up=[w2] and model.roles.fc_in=[w2] name the same matrix",
        ),
        *(
            (
                {"fc_in": wrong},
                f"model.roles.fc_in={wrong} is no list of endings of module names; give e.g. +model.roles.fc_in=[w1]",
            )
            for wrong in ([], [1], [""], "", 3, None, {"w1": 1})
        ),
    ],
)
def test_roles_that_cannot_be_meant_are_refused(given: object, message: str) -> None:
    with pytest.raises(RequestError) as error:
        read_roles(given)
    assert str(error.value) == message
