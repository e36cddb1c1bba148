"""Pages that follow a store while sweeps write to it, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ..measured import done, right, trial, written
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


@pytest.mark.parametrize("later", ["two trials", "a τ"])
def test_the_page_follows_a_sweep_and_leaves_a_person_alone(
    visit: Callable[..., Visit], tmp_path: Path, later: str
) -> None:
    """Two trials are filled in place; for one more τ the page is made again."""
    places = [(tau, layer, rho) for tau in ("fc_in", "fc_out") for layer in range(4) for rho in (0.1, 0.5)]
    untouched = right(50)
    grid = [done(trial(place), right(50 + number), untouched) for number, place in enumerate(places)]
    count = 2 if later == "two trials" else 8
    running = written(tmp_path / "store", [done(trial(), untouched), *grid[:-count]])
    with serving(running.root) as address:
        here = visit(address)
        here.page.set_viewport_size({"width": 1280, "height": 420})
        page = here.open("/heat-maps?split=val&model=tiny", CELL)
        here.page.wait_for_load_state("networkidle")
        before = page.inner_text(".filters")
        page.focus("a[data-place='layer:0']")
        page.evaluate("window.scrollTo(0, 90)")
        page.evaluate("window.same = document.querySelector('.js-plotly-plot')")
        assert page.evaluate("window.scrollY") == 90
        for one in grid[-count:]:
            running.write(one, "sweep", "{}")
        page.wait_for_function("document.querySelector('.filters').innerText.includes('of 17 trials')")
        assert page.inner_text(".filters") != before
        running.compact()
        page.wait_for_timeout(2500)  # more than one look at the store
        assert "of 17 trials" in page.inner_text(".filters")
        focus, scrolled, same = page.evaluate(
            "[document.activeElement.dataset.place, window.scrollY, window.same.isConnected]"
        )
        assert (focus, scrolled, same) == ("layer:0", 90, later == "two trials")
        here.assert_clean()
