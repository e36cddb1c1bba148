"""Pages that follow a store while sweeps write to it, in a real browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from laser_sweep.store.reader import read_trials
from laser_sweep.store.store import ParquetStore

from .conftest import Visit, serving
from .sweeps import finish, started

CELL = ".js-plotly-plot .heatmaplayer image"


def test_a_page_fills_while_a_sweep_writes_and_is_never_loaded_again(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    with serving(tmp_path / "store") as address:
        here = visit(address)
        page = here.open("/heat-maps?split=val")
        assert "Nothing here yet" in page.inner_text("#main")
        page.evaluate("window.loaded = true")
        running = started(tmp_path / "store", "tau=[fc_in,fc_out,out_proj]", "layer=each", "rho=[0.01,0.05,0.1,0.2]")
        seen = set()
        while running.poll() is None:
            seen.add(page.evaluate(CELLS_DRAWN))
            time.sleep(0.2)
        finish(running)
        page.wait_for_function(f"{CELLS_DRAWN} === 24")
        assert len(seen - {0, 24}) >= 1  # some before the others
        assert page.evaluate("window.loaded")
        page.click("a[data-place='page:sweeps']")
        page.wait_for_selector("text=25 of 25")  # with the untouched model
        assert page.evaluate("window.loaded")
        here.assert_clean()


CELLS_DRAWN = """
  [...document.querySelectorAll('.js-plotly-plot')].flatMap((plot) => plot._fullData)
    .filter((trace) => trace.type === 'heatmap').flatMap((trace) => [...trace.z].map((line) => [...line]).flat())
    .filter((one) => one !== null && !Number.isNaN(one)).length"""


@pytest.mark.parametrize("missing", ["two trials", "a τ"])
def test_the_page_follows_a_sweep_and_leaves_a_person_alone(
    visit: Callable[..., Visit], swept: Path, tmp_path: Path, missing: str
) -> None:
    """Two trials are filled in place; for one more τ the page is made again."""
    shutil.copytree(swept, tmp_path / "store")
    running = ParquetStore(tmp_path / "store")
    trials = read_trials(swept)
    later = trials[trials["tau"].eq("fc_out") & trials["sweep"].eq("grid")]["trial_key"]
    for key in later[:2] if missing == "two trials" else later:
        (running.trials / f"{key}.parquet").unlink()
    with serving(running.root) as address:
        here = visit(address)
        here.page.set_viewport_size({"width": 1280, "height": 420})
        page = here.open("/heat-maps?sweep=grid&split=val", CELL)
        here.page.wait_for_load_state("networkidle")
        before = page.inner_text(".filters")
        page.focus("a[data-place='layer:0']")
        page.evaluate("window.scrollTo(0, 90)")
        page.evaluate("window.same = document.querySelector('.js-plotly-plot')")
        assert page.evaluate("window.scrollY") == 90
        for file in ParquetStore(swept).trials.glob("*.parquet"):
            shutil.copy(file, running.trials / f".{file.name}.tmp")
            (running.trials / f".{file.name}.tmp").replace(running.trials / file.name)
        page.wait_for_function(f"document.querySelector('.filters').innerText.includes('of {len(trials)} trials')")
        assert page.inner_text(".filters") != before
        running.compact()
        page.wait_for_timeout(2500)  # more than one look at the store
        assert f"of {len(trials)} trials" in page.inner_text(".filters")
        focus, scrolled, same = page.evaluate(
            "[document.activeElement.dataset.place, window.scrollY, window.same.isConnected]"
        )
        assert (focus, scrolled, same) == ("layer:0", 90, missing == "two trials")
        here.assert_clean()
