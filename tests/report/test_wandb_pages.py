"""W&B pages: what stands in their specification, and that W&B's own client saves them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from laser_sweep.errors import RequestError
from laser_sweep.report.content import gather
from laser_sweep.report.wandb_pages import build_report, build_workspace, publish
from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore
from laser_sweep.store.stored import python_row
from laser_sweep.sweep.tracking.heat_maps import heat_maps

pytest.importorskip("wandb_workspaces", reason="pip install 'laser-sweep[wandb-report]'")

PUBLISH = "import sys; from laser_sweep.report.wandb_pages import publish; print(publish(sys.argv[1], 'mine'))"


def specification(page: Any) -> dict[str, Any]:
    """What W&B is sent."""
    spec: dict[str, Any] = json.loads(page._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))
    return spec


def panels_of(store: ParquetStore) -> dict[str, list[dict[str, Any]]]:
    """The panels of each section of the workspace."""
    workspace = build_workspace(store.root, project="p", entity="e")
    assert (workspace.project, workspace.entity) == ("p", "e")
    sections = specification(workspace)["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def configs(panels: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [panel["config"] for panel in panels if panel["viewType"] == kind]


def test_lines_follow_the_trials_of_a_sweep(store: ParquetStore) -> None:
    lines = configs(panels_of(store)["Trials of a sweep"], "Run History Line Plot")
    assert {line["xAxis"] for line in lines} == {"trial"}
    assert {metric for line in lines for metric in line["metrics"]} == {"val/accuracy", "val/gain", "val/log_loss"}


def test_heat_maps_are_shown_under_the_names_that_the_tracker_gives_them(store: ParquetStore) -> None:
    [shown] = configs(panels_of(store)["Trials of a sweep"], "Media Browser")
    tracked = heat_maps([python_row(row) for _, row in read_trials(store.root).iterrows()])
    assert set(shown["mediaKeys"]) == set(tracked)
    assert tracked


def test_coordinates_and_points_are_settings_and_figures_of_a_trial(store: ParquetStore) -> None:
    panels = panels_of(store)["Each trial a run"]
    [parallel] = configs(panels, "Parallel Coordinates Plot")
    columns = [column["accessor"] for column in parallel["columns"]]
    assert columns == [
        "config:intervention.value.name", "config:tau.value", "config:layer.value", "config:rho.value",
        "summary:val/log_loss", "summary:val/accuracy", "summary:val/gain",
    ]  # fmt: skip
    points = {(one["xAxis"], one["yAxis"]) for one in configs(panels, "Scatter Plot")}
    assert ("config:rho.value", "summary:val/gain") in points
    assert ("summary:val/log_loss", "summary:val/accuracy") in points


def test_the_report_says_in_words_what_the_page_says(store: ParquetStore) -> None:
    blocks = specification(build_report(store.root, project="p", entity="e"))["blocks"]
    [text] = [block["content"] for block in blocks if block["type"] == "markdown-block"]
    sections = gather(store.root, figures=False).sections
    assert sections[0].findings
    for section in sections:
        assert f"## {section.title}" in text
        assert all(f"* {line}" in text for line in section.findings)
    assert "fc_in[2]" in text  # the winner


def test_the_panels_of_the_report_show_the_runs_that_they_are_about(store: ParquetStore) -> None:
    blocks = specification(build_report(store.root, project="p", entity="e"))["blocks"]
    grids = [block["metadata"] for block in blocks if block["type"] == "panel-grid"]
    asked = []
    for grid in grids:
        [runs] = grid["runSets"]
        asked.append([(one["key"], one["op"], one["value"]) for one in runs["filters"]["filters"]])
    job_type = {"section": "run", "name": "jobType"}
    assert asked == [[(job_type, "=", "sweep")], [(job_type, "=", "trial")]]
    for grid in grids:
        places = [panel["layout"] for panel in grid["panelBankSectionConfig"]["panels"]]
        cells = [(x, y) for one in places for x in range(one["x"], one["x"] + one["w"])
                 for y in range(one["y"], one["y"] + one["h"])]  # fmt: skip
        assert len(cells) == len(set(cells))  # none covers another
        assert max(x for x, _ in cells) < 24


def test_without_a_key_there_is_one_clear_line(
    store: ParquetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(RequestError, match=r"need a key: run `wandb login`, or set WANDB_API_KEY$"):
        publish(store.root)


def test_without_the_extra_there_is_one_clear_line(store: ParquetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb_workspaces"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    for build in (build_workspace, build_report):
        with pytest.raises(RequestError, match=r"pip install 'laser-sweep\[wandb-report\]'$"):
            build(store.root, project="p", entity="e")
    with pytest.raises(RequestError, match=r"pip install 'laser-sweep\[wandb-report\]'$"):
        publish(store.root)


def test_both_pages_are_saved(store: ParquetStore, wandb_server: Any, tmp_path: Path) -> None:
    names = ("HOME", "NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")
    others = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    ended = subprocess.run(
        [sys.executable, "-c", PUBLISH, str(store.root)],
        env={**others, **dict.fromkeys(names, str(tmp_path)), **wandb_server.environment},
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    workspace, report = ended.stdout.splitlines()
    assert workspace.startswith(f"workspace: {wandb_server.environment['WANDB_BASE_URL']}/somebody/mine")
    assert report.startswith(f"report: {wandb_server.environment['WANDB_BASE_URL']}/somebody/mine/reports/")
    [view], [page] = wandb_server.named("UpsertView2"), wandb_server.named("upsertView")
    assert view["projectName"] == page["projectName"] == "mine"
    assert "val/gain" in view["spec"]
    assert "fc_in[2]" in page["spec"]
