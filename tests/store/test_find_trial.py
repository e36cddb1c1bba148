"""A trial by its key or the beginning of it, as a person copies it from a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from laser_sweep.errors import RequestError
from laser_sweep.store.reader import find_trial, read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import TrialResult

MakeResult = Callable[..., TrialResult]


@pytest.fixture
def keys(store: ParquetStore, make_result: MakeResult) -> list[str]:
    """Those of 40 stored trials, of which several begin alike; half of them are merged into one file."""
    results = [make_result(number / 100) for number in range(1, 41)]
    for number, result in enumerate(results):
        store.write(result, "sweep", "{}")
        if number == 20:
            store.compact()
    return [result.trial.key for result in results]


def test_a_trial_is_found_by_its_key_and_by_the_shortest_beginning_that_is_its_own(
    store: ParquetStore, keys: list[str]
) -> None:
    rows = read_trials(store.root).set_index("trial_key")
    for key in keys[::6]:  # some of both halves
        length = next(n for n in range(1, 17) if sum(other.startswith(key[:n]) for other in keys) == 1)
        for asked in (key, key[:length], f" {key[:length].upper()} "):
            found = find_trial(store.root, asked)
            assert found["trial_key"] == key
            assert found["rho"] == rows.loc[key, "rho"]
        if length > 1:
            with pytest.raises(RequestError, match=f"trial {key[: length - 1]} could be "):
                find_trial(store.root, key[: length - 1])


def test_of_many_that_begin_alike_a_few_are_named(store: ParquetStore, keys: list[str]) -> None:
    first = max("0123456789abcdef", key=lambda digit: sum(key.startswith(digit) for key in keys))
    alike = sorted(key for key in keys if key.startswith(first))
    assert len(alike) > 4
    with pytest.raises(RequestError) as refused:
        find_trial(store.root, first)
    listed = ", ".join(alike[:4])
    assert str(refused.value) == f"trial {first} could be {listed} and {len(alike) - 4} more; give more of its key"


@pytest.mark.parametrize("asked", ["zzzz", "%", "_", "'", "0123456789abcdef0"])
def test_what_is_not_there_is_said_with_the_way_to_see_what_is(
    asked: str, store: ParquetStore, keys: list[str]
) -> None:
    with pytest.raises(RequestError, match=r"is not in store\.path=.*laser_sweep\.store show"):
        find_trial(store.root, asked)


@pytest.mark.parametrize("asked", ["", "  "])
def test_no_key_at_all_names_no_trial(asked: str, store: ParquetStore, keys: list[str]) -> None:
    with pytest.raises(RequestError, match="none were given"):
        find_trial(store.root, asked)


def test_where_there_is_no_store_this_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=rf"store\.path={tmp_path}/none holds no trials"):
        find_trial(tmp_path / "none", "ab")
