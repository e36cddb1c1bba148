"""`show`: a row for each trial, or a trial in full."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from laser_sweep.store.store import ParquetStore
from laser_sweep.trial import Edit, Matrix, Trial, TrialResult

Command = Callable[..., "subprocess.CompletedProcess[str]"]
MakeResult = Callable[..., TrialResult]


def rows(ended: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The cells of a printed table by what stands in the first column."""
    assert ended.returncode == 0, ended.stderr
    lines = [line.split() for line in ended.stdout.splitlines()]
    return {line[0]: line[1:] for line in lines if line}


def test_every_trial_has_a_row(
    command: Command, store: ParquetStore, make_result: MakeResult, make_failed: MakeResult
) -> None:
    done, untouched, failed = make_result(0.125, gain=0.25), make_result(None), make_failed(0.5)
    for result in (done, untouched, failed):
        store.write(result, "sweep", "{}")
    shown = rows(command("show", store.root))
    percent = f"{100 * done.measured().accuracy:.1f}"
    assert shown[done.trial.key] == [
        "tiny", "colours", "val", "5", "laser", "fc_in", "3", "0.125", "done", percent, "+25.0",
    ]  # fmt: skip
    assert shown[untouched.trial.key] == ["tiny", "colours", "val", "5", "none", "done", percent]
    assert shown[failed.trial.key] == ["tiny", "colours", "val", "laser", "fc_in", "3", "0.5", "failed"]


def test_edits_of_all_layers_and_of_several_places_are_named(
    command: Command, store: ParquetStore, make_trial: Callable[..., Trial], make_result: MakeResult
) -> None:
    edits = tuple(Edit(matrix=Matrix("fc_in", layer), rho=0.5) for layer in (0, 1))
    everywhere = replace(make_trial(0.5), edits=edits, layer=None)
    composed = replace(make_trial(0.4), edits=edits[:1], tau=None, layer=None, rho=None)
    for trial in (everywhere, composed):
        store.write(make_result(trial=trial), "sweep", "{}")
    shown = rows(command("show", store.root))
    assert shown[everywhere.key][5:8] == ["fc_in", "all", "0.5"]
    assert shown[composed.key][5:8] == ["1", "edits", "done"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["--split=test"], ["test"]),
        (["--status", "failed"], ["failed"]),
        (["--tau=fc_in", "--split=val"], ["fc_in", "failed"]),
        (["--model=tiny", "--dataset=colours", "--status=done"], ["fc_in", "untouched", "test"]),
        (["--model=huge"], []),
    ],
)
def test_filters_choose_rows(
    command: Command,
    store: ParquetStore,
    make_trial: Callable[..., Trial],
    make_result: MakeResult,
    make_failed: MakeResult,
    asked: list[str],
    found: list[str],
) -> None:
    results = {
        "fc_in": make_result(0.1),
        "untouched": make_result(None),
        "failed": make_failed(0.5),
        "test": make_result(trial=make_trial(0.1, split="test")),
    }
    for result in results.values():
        store.write(result, "sweep", "{}")
    shown = rows(command("show", store.root, *asked))
    assert {name for name, result in results.items() if result.trial.key in shown} == set(found)


def test_a_filter_that_finds_nothing_says_what_there_is(
    command: Command, store: ParquetStore, make_result: MakeResult
) -> None:
    store.write(make_result(), "sweep", "{}")
    ended = command("show", store.root, "--tau=q_proj")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "none of 1 trial is --tau=q_proj; there are tau fc_in\n"


def test_a_limit_shows_the_best_and_says_so(command: Command, store: ParquetStore, answered: MakeResult) -> None:
    results = [answered(rho, [True] * right + [False] * (4 - right)) for right, rho in enumerate((0.1, 0.2, 0.3, 0.4))]
    for result in results:
        store.write(result, "sweep", "{}")
    ended = command("show", store.root, "--limit", "2")
    shown = rows(ended)
    assert [result.trial.key in shown for result in results] == [False, False, True, True]
    assert "the first 2 of 4" in ended.stdout


def test_a_trial_is_shown_in_full(command: Command, store: ParquetStore, make_result: MakeResult) -> None:
    edit = Edit(matrix=Matrix("fc_out", 2), rho=0.25, method="clustered", options=(("clusters", 4),))
    result = make_result(0.25, gain=0.4, gain_p_value=0.0625)
    result = replace(result, trial=replace(result.trial, edits=(edit,), tau="fc_out", layer=2))
    config = {"model": {"name": "tiny", "roles": {}}, "rho": [0.25, 0.5], "sweep": None}
    store.write(result, "my sweep", json.dumps(config))
    ended = command("show", store.root, result.trial.key[:6])
    assert ended.returncode == 0, ended.stderr
    text = ended.stdout
    assert text.startswith(f"trial {result.trial.key}: fc_out[2] rho=0.25 clusters=4 (done)\n")
    for part in (
        "tiny, revision 0123abcd, float32", "colours, val, 5 asked", "my sweep", "attempt 1 on host-1 (cpu)",
        "2023-11-14 22:13:20 UTC to 2023-11-14 22:13:22 UTC", "factor 0.5 s, edit 0.25 s, eval 2 s",
        f"{100 * result.measured().accuracy:.1f} ± 12.5", "0.7500", "+40.0", "0.062",
    ):  # fmt: skip
        assert part in text
    assert rows(ended)["fc_out[2]"] == ["clustered", "clusters=4", "0.25", "17", "4,321"]
    assert "rho:\n- 0.25\n- 0.5\nsweep: null\n" in text


def test_a_failed_trial_says_why(command: Command, store: ParquetStore, make_failed: MakeResult) -> None:
    failed = make_failed(0.5, error="[bold]out of memory[/bold]: fc_in[all]")
    store.write(failed, "sweep", "{}")
    text = command("show", store.root, failed.trial.key).stdout
    assert "[bold]out of memory[/bold]: fc_in[all]" in text
    assert "(failed)" in text


def test_a_directory_wins_over_a_key_of_the_same_spelling(
    command: Command, make_result: MakeResult, tmp_path: Path
) -> None:
    result = make_result()
    here = tmp_path / "here" / result.trial.key[:4]
    ParquetStore(here).write(result, "sweep", "{}")
    assert result.trial.key in rows(command("show", here.name))
