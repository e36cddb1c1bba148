"""Reports and pages of the dashboard over a store of episodes: they speak of returns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from plotly.utils import PlotlyJSONEncoder

from laser_sweep.analysis.comparisons import comparisons
from laser_sweep.analysis.discordance import gain_stderr
from laser_sweep.dashboard.app import Dashboard
from laser_sweep.dashboard.data import LiveStore
from laser_sweep.figures import by_layer, gain_heat_map, loss_against_accuracy
from laser_sweep.report.content import gather
from laser_sweep.report.markdown import markdown
from laser_sweep.report.page import page
from laser_sweep.store.reader import read_predictions, read_trials

from ..measured import played, trial, written

RANDOM = np.random.default_rng(3)
BASE = {"val": RANDOM.normal(-95, 20, 30), "test": RANDOM.normal(-95, 20, 120)}
CONFIG = json.dumps({"dataset": {"name": "rollouts"}, "seed": 0, "evaluation": {}, "search": {"name": "halving"}})


def results(*, errors: bool) -> list[object]:
    found = []
    for split, base in BASE.items():
        said = {"errors": np.full(len(base), 0.02) if errors else None, "solved_at": -100.0}
        found.append(played(trial(dataset="rollouts", split=split), base, **said))
        for layer in (0, 1) if split == "val" else (1,):
            for rho in (0.1, 0.5) if split == "val" else (0.1,):
                got = base + RANDOM.normal(8 * layer - 2, 4, len(base))
                found.append(played(trial(("fc_in", layer, rho), dataset="rollouts", split=split), got, base, **said))
    return found


@pytest.fixture(params=[True, False], ids=["with action errors", "without"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return written(tmp_path / "store", results(errors=request.param), CONFIG).root


def words(html: str) -> str:
    """What a person sees of a page."""
    body = html[html.index("<body>") :]
    return re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", " ", body, flags=re.DOTALL))


def without_provenance(text: str) -> str:
    return text.lower().replace("provenance", "")


def test_a_page_of_episodes_is_in_terms_of_return(store: Path) -> None:
    text = words(page(gather(store)))
    assert f"untouched return {BASE['test'].mean():.2f}" in text
    assert "Gain of fc_in over the untouched model, which has return" in text
    assert "in the same episodes" in text
    assert "nan" not in without_provenance(text)
    sections = text[text.index("Leaderboard") :]
    for word in ("accuracy", "log-loss", "points"):
        assert word not in sections.lower()


def test_a_summary_of_episodes_in_markdown_has_no_accuracies(store: Path) -> None:
    text = markdown(gather(store, figures=False))
    assert "| #" not in text
    assert re.search(r"\| return \| ± se \| action error \|", text.replace("#", ""))
    assert "nan" not in without_provenance(text)
    assert "accuracy" not in text
    assert "success" in text


def test_figures_of_episodes_are_in_returns(store: Path) -> None:
    [val, _] = comparisons(read_trials(store))
    heat = gain_heat_map(val.trials, "fc_in")
    best = val.winner()
    assert best is not None
    assert f"best {best['gain']:+.2f} at layer 1" in heat.alt
    drawn = [value for trace in heat.figure.data for line in trace.z for value in line if value is not None]
    assert max(value for value in drawn if not np.isnan(value)) == pytest.approx(best["gain"])
    line = by_layer(val.trials, "score", "fc_in")
    assert line.figure.layout.yaxis.title.text == "return"
    heights = [value for trace in line.figure.data[2:] for value in trace.y]
    assert max(heights) == pytest.approx(best["mean_return"])
    assert loss_against_accuracy(val.trials).figure.layout.xaxis.title.text == "return"


def test_the_error_of_a_gain_is_found_again_from_its_p_value(store: Path) -> None:
    [val, _] = comparisons(read_trials(store))
    untouched, found = val.untouched, gain_stderr(val.trials)
    assert untouched is not None
    base = read_predictions(store, untouched["trial_key"])["episode_return"].to_numpy()
    for place, row in val.edited.iterrows():
        differences = read_predictions(store, row["trial_key"])["episode_return"].to_numpy() - base
        assert found[place] == pytest.approx(differences.std(ddof=1) / np.sqrt(len(differences)), rel=1e-6)


def test_pages_of_the_dashboard_show_returns(store: Path) -> None:
    rows = read_trials(store)
    keys = rows[rows["split"].eq("val")]["trial_key"].tolist()
    pages = Dashboard(LiveStore(str(store)))
    addresses = {
        "/": "best val",
        "/heat-maps": "gain of the best",
        "/heat-maps?figure=accuracy": "Return by layer",
        "/trials": "mean_return",
        "/leaderboard": "test return",
        f"/trial?trial={keys[0]}": "episode_return",
        f"/compare?trial={keys[0]}&trial={keys[1]}": "return_1",
        "/failures": "",
    }
    for address, expected in addresses.items():
        whole, _ = pages.frame(address)
        text = json.dumps(whole.to_plotly_json(), cls=PlotlyJSONEncoder)
        assert "This page could not be made" not in text, address
        assert expected in text, address
        assert "NaN" not in text, address
        assert "accuracy %" not in text, address
        assert "wrong in both" not in text, address
    shown = pages.requested_rows({"startRow": 0, "endRow": 20}, "/trials")
    best = shown["rowData"][0]
    assert best["mean_return"] == pytest.approx(rows.iloc[0]["mean_return"])
    assert best["gain"] == pytest.approx(rows.iloc[0]["gain"])
