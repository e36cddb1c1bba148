"""Stored trials of every kind, asked again with other edits: the same model, the same examples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

import laser_sweep
from laser_sweep import rerun
from laser_sweep.cli import CONF, run_configs
from laser_sweep.errors import RequestError
from laser_sweep.rerun import vary
from laser_sweep.store.reader import find_trial, read_predictions, read_trials
from laser_sweep.store.store import ParquetStore

ASSETS = Path(laser_sweep.__file__).parent / "demo" / "assets"
SMALL = ("tracking=none", "evaluation.limit=40", "evaluation.test_limit=24", "seed=3")
ONE = ("tau=fc_in", "layer=last", "rho=0.01")


def run(store: Path, *lines: Sequence[str]) -> None:
    """Command lines as one sweep in this process."""
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        configs = [compose("config", overrides=[*SMALL, *line, f"store.path={store}"]) for line in lines]
    run_configs(configs, on_ray=False)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 60 prompts from the middle of the demo's."""
    file = tmp_path_factory.mktemp("data") / "others.jsonl"
    pd.read_parquet(ASSETS / "examples.parquet")[900:960].to_json(file, orient="records", lines=True)
    return file


@pytest.fixture(scope="module")
def store(others: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial on a part of val, confirmed on a part of test; a composition; one of a guard; one over two data sets."""
    root = tmp_path_factory.mktemp("store")
    run(root, [*ONE, "sweep=one"])
    run(
        root,
        ["tau=[fc_in,fc_out]", "layer=each", "rho=[0.6,0.1]", "search=greedy", "evaluation.limit=30", "sweep=greedy"],
    )
    run(
        root,
        [*ONE, "evaluation.limit=20", "guard=jsonl", f"guard.dataset.path={others}", "guard.limit=7", "sweep=guard"],
    )
    mean = ["tau=mlp", "layer=all", "rho=0.5", "objective=mean_accuracy", "sweep=mean"]
    run(root, mean, [*mean, "dataset=jsonl", f"dataset.path={others}"])
    return root


def the_row(store: Path, sweep: str, dataset: str = "demo", split: str = "val") -> pd.Series[Any]:
    rows = read_trials(store)
    laser = rows["intervention"].eq("laser") & rows["sweep"].eq(sweep)
    found = rows[laser & rows["dataset"].eq(dataset) & rows["split"].eq(split)]
    return find_trial(store, found.sort_values("accuracy").iloc[-1]["trial_key"])


KINDS = [
    ("one", "demo", "val"),
    ("one", "demo", "test"),
    ("greedy", "demo", "val"),
    ("guard", "others", "val"),
    ("mean", "others", "val"),
]


@pytest.mark.parametrize(("sweep", "dataset", "split"), KINDS)
def test_the_variant_is_asked_what_the_trial_was_asked_and_stored_like_any_other(
    sweep: str, dataset: str, split: str, store: Path, others: Path
) -> None:
    row = the_row(store, sweep, dataset, split)
    result = (variant := vary(store, row, "removed")).measure()
    assert result.ok
    stored = find_trial(store, result.trial.key)
    for same in (
        "model",
        "model_revision",
        "dataset",
        "split",
        "limit",
        "num_examples",
        "sweep",
        "tau",
        "layer",
        "rho",
    ):
        assert stored[same] == row[same] or (pd.isna(stored[same]) and pd.isna(row[same]))
    assert stored["intervention"] == "removed"
    assert [(e["tau"], e["layer"], e["rho"]) for e in stored["edits"]] == [
        (e["tau"], e["layer"], e["rho"]) for e in row["edits"]
    ]
    assert {edit["method"] for edit in stored["edits"]} == {"removed"}
    was, now = (read_predictions(store, key) for key in (row["trial_key"], stored["trial_key"]))
    assert list(now["example_id"]) == list(was["example_id"])
    assert list(now["gold"]) == list(was["gold"])
    before = read_predictions(store, variant.untouched.key)
    assert stored["gain"] == pytest.approx(now["correct"].mean() - before["correct"].mean())
    source = pd.read_parquet(ASSETS / "examples.parquet") if dataset == "demo" else pd.read_json(others, lines=True)
    prompts = variant.prompts()
    assert set(prompts) == set(was["example_id"])
    assert all(prompts[example] == source["prompt"][int(example)] for example in prompts)


def test_there_are_edits_of_several_matrices_among_them(store: Path) -> None:
    assert len(the_row(store, "greedy")["edits"]) > 1
    assert len(the_row(store, "mean", "others")["edits"]) == 4
    assert json.loads(the_row(store, "mean", "others")["config_json"])["dataset"]["name"] == "others"


def test_what_is_stored_is_not_measured_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = vary(store, the_row(store, "one"), "removed")
    first = variant.measure()
    monkeypatch.setattr(rerun, "make_executor", None)
    again = variant.measure()
    assert (again.trial, again.metrics, again.gain) == (first.trial, first.metrics, first.gain)


def test_it_is_the_trial_that_a_person_would_have_asked_for(store: Path, tmp_path: Path) -> None:
    variant = vary(store, the_row(store, "one"), "removed")
    run(tmp_path, [*ONE, "intervention=removed", "evaluation.confirm=false"])
    asked = read_trials(tmp_path).set_index("intervention")
    assert asked["trial_key"]["removed"] == variant.trial.key
    config = json.loads(asked["config_json"]["removed"])
    variant.measure()
    stored = json.loads(find_trial(store, variant.trial.key)["config_json"])
    assert {**config, "layer": 1, "sweep": "one", "store": {"path": str(store)}, "resume": "errored"} == stored


def test_a_variant_that_failed_is_tried_again(store: Path) -> None:
    variant = vary(store, the_row(store, "one"), "zero")
    good = variant.measure()
    failed = dataclasses.replace(good, status="failed", error="it was too hot", metrics=None)
    ParquetStore(store).write(failed, "one", "{}")
    again = variant.measure()
    assert again.ok
    assert again.measured() == good.measured()


def rewritten(store: Path, row: pd.Series[Any], change: Callable[[dict[str, Any]], object]) -> pd.Series[Any]:
    """The row with a configuration that somebody changed."""
    config = json.loads(row["config_json"])
    change(config)
    return pd.Series({**row, "config_json": json.dumps(config)})


def test_a_configuration_of_an_older_version_lacks_groups_that_do_not_matter(store: Path) -> None:
    row = the_row(store, "one")

    def older(config: dict[str, Any]) -> None:
        for group in ("search", "objective", "cluster", "cache", "tracking", "guard", "store", "resume"):
            config.pop(group, None)

    assert vary(store, rewritten(store, row, older), "removed").trial == vary(store, row, "removed").trial


def one_line(refused: pytest.ExceptionInfo[RequestError], key: str) -> str:
    message = str(refused.value)
    assert message.startswith(f"trial {key} cannot be asked again: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("config", ["{}", "null", "[1]", "no json", None])
def test_without_a_configuration_the_data_set_of_others_of_its_name_is_not_enough(config: object, store: Path) -> None:
    row = pd.Series({**the_row(store, "one"), "config_json": config})
    with pytest.raises(RequestError) as refused:
        vary(store, row, "removed")
    one_line(refused, row["trial_key"])


def test_a_data_set_that_has_changed_or_gone_is_said(others: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(others.read_text())
    run(tmp_path / "store", [*ONE, "dataset=jsonl", f"dataset.path={file}", "evaluation.confirm=false", "sweep=mine"])
    row = the_row(tmp_path / "store", "mine", "mine")
    vary(tmp_path / "store", row, "removed")
    file.write_text(others.read_text().replace("named", "called"))
    with pytest.raises(RequestError) as refused:
        vary(tmp_path / "store", row, "removed")
    assert "its model, its data set or the way of scoring has changed" in one_line(refused, row["trial_key"])
    file.unlink()
    with pytest.raises(RequestError) as refused:
        vary(tmp_path / "store", row, "removed")
    assert f"dataset.path={file} is not a file" in one_line(refused, row["trial_key"])


def test_a_model_that_is_gone_is_said(store: Path) -> None:
    row = rewritten(store, the_row(store, "one"), lambda config: config["model"].update(path="/nowhere/at/all"))
    with pytest.raises(RequestError) as refused:
        vary(store, row, "removed")
    assert "model.path=/nowhere/at/all" in one_line(refused, row["trial_key"])
