"""An address is a view: there and back, and whatever else stands in it is answered in words."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laser_sweep.dashboard.url import COLUMNS, PAGES, Figure, Filters, Group, View, parse
from laser_sweep.figures.words import rho_text

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)
values = st.lists(texts, max_size=3, unique=True).map(tuple)
layers = st.lists(st.one_of(st.just("all"), st.integers(0, 200).map(str)), max_size=3, unique=True).map(tuple)
rhos = st.lists(st.floats(0, 1).map(rho_text), max_size=3, unique=True).map(tuple)
filters = st.builds(
    Filters,
    **{name: values for name in COLUMNS if name not in ("layer", "rho", "status")},
    layer=layers,
    rho=rhos,
    status=st.sampled_from([(), ("done",), ("failed",), ("failed", "done")]),
    search=texts | st.just(""),
)
views = st.builds(
    View,
    page=st.sampled_from(PAGES),
    filters=filters,
    trial=values,
    by=st.sampled_from([None, *get_args(Group)]),
    of=values,
    comparison=texts | st.just(""),
    figure=st.sampled_from(get_args(Figure)),
    outcome=texts | st.just(""),
    everything=st.booleans(),
    sort=texts | st.just(""),
    columns=texts | st.just(""),
)


@given(views)
def test_the_address_of_a_view_is_read_as_that_view(view: View) -> None:
    assert parse(view.href) == (view, [])
    assert parse(f"http://127.0.0.1:8050{view.href}") == (view, [])


@given(st.text() | st.text("?&=/%#[]:;+abc019", max_size=60).map(lambda text: f"/trials?{text}"))
def test_any_text_is_an_address_and_what_is_read_of_it_is_read_again(address: str) -> None:
    view, wrong = parse(address)
    assert all(isinstance(line, str) and line and "\n" not in line[:1] for line in wrong)
    assert parse(view.href) == (view, [])


@given(views, st.sampled_from([name for name in COLUMNS if name not in ("layer", "rho", "status")]), texts)
def test_clicking_a_value_twice_changes_nothing(view: View, column: str, value: str) -> None:
    once = view.filters.toggled(column, value)
    assert (value in getattr(once, column)) != (value in getattr(view.filters, column))
    assert set(getattr(once.toggled(column, value), column)) == set(getattr(view.filters, column))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/heat-map", "there is no page heat-map (did you mean heat-maps?)"),
        ("/../../etc/passwd", "there is no page ../../etc/passwd"),
        ("/trials?layer=x", "layer=x is no layer; give a number from 0, or all"),
        ("/trials?layer=-1", "layer=-1 is no layer"),
        ("/trials?rho=1.5", "rho=1.5 is no rho; give a fraction from 0 to 1"),
        ("/trials?rho=nan", "rho=nan is no rho"),
        ("/trials?status=running", "status=running is no status; there are done, failed"),
        ("/trials?modle=gptj", "modle is no setting of a page (did you mean model?)"),
        ("/compare?by=dataset", "by=dataset is no by; there are sweep, model"),
        ("/heat-maps?comparison=a&comparison=b", "comparison has 2 values and takes one; the first counts"),
        ("http://[", "this address cannot be read"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_in_words(address: str, said: str) -> None:
    view, wrong = parse(address)
    assert any(said in line for line in wrong)
    assert parse(view.href) == (view, [])


def test_values_are_read_as_they_stand_in_the_page() -> None:
    view, wrong = parse("/trials?rho=0.050&rho=5e-2&layer=007&tau=%20fc_in%20&search=&model=")
    assert not wrong
    assert view.filters == Filters(rho=("0.05",), layer=("7",), tau=("fc_in",))


def test_another_page_keeps_the_filters_and_nothing_else() -> None:
    view = View(page="trial", filters=Filters(tau=("fc_in",)), trial=("abc",), sort="-gain")
    assert view.at("trials").href == "/trials?tau=fc_in"


def test_a_value_can_be_appended_to_an_open_address() -> None:
    assert View().open("tau") == "/?tau="
    assert View(page="trials", filters=Filters(search="a b")).open("tau") == "/trials?search=a+b&tau="
