"""`python -m docs.screenshots`: sweeps the embedded model into a store and writes a picture of every page to docs/img.

Two sweeps succeed and one mostly fails, so that every page has something to show. The pictures are of what is there:
nothing is drawn for them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from laser_sweep.store.reader import read_trials
from tests.browser import MISSING, launch
from tests.dashboard.sweeps import finish, poisoned, poisoned_sweep, started

IMAGES = Path(__file__).parent / "img"
STORE = Path("outputs/store")  # as it would be called where a person works
LARGEST = 300_000  # bytes of one picture
SCREEN: Any = {"width": 1280, "height": 800}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--within", type=Path, help="a directory that keeps the store, for another time; default: none")
    within = parser.parse_args().within
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        browser = launch(playwright)
        if browser is None:
            raise SystemExit(MISSING)
        os.chdir(within or temporary)
        if not STORE.exists():
            sweep()
        trials = read_trials(STORE)
        grid = trials[trials["sweep"].eq("demo-demo") & trials["split"].eq("val") & trials["tau"].notna()]
        first, second = grid["trial_key"].iloc[0], grid["trial_key"].iloc[6]
        pages = {
            "sweeps": "/",
            "heat-maps": "/heat-maps?sweep=demo-demo&split=val",
            "by-layer": "/heat-maps?figure=log_loss&sweep=demo-demo&split=val",
            "coverage": "/heat-maps?figure=coverage&sweep=demo-demo&split=val",
            "trials": "/trials?model=demo&split=val&sort=-accuracy",
            "trial": f"/trial?trial={first}",
            "compare": f"/compare?trial={first}&trial={second}",
            "leaderboard": "/leaderboard?everything=yes",
            "failures": "/failures",
        }
        with served() as address:
            for name, path in pages.items():
                picture(browser, address + path, name, "light")
            picture(browser, address + pages["heat-maps"], "heat-maps-dark", "dark")
        subprocess.run([sys.executable, "-m", "laser_sweep.report", str(STORE), "--to", "report.html"], check=True)
        picture(browser, Path("report.html").absolute().as_uri(), "report", "light")
        browser.close()
    for file in sorted(IMAGES.glob("*.png")):
        print(f"{file.stat().st_size / 1000:6.0f} kB  {file.relative_to(IMAGES.parent.parent)}")
        assert file.stat().st_size < LARGEST, f"{file} is too large for the repository"


def sweep() -> None:
    """The sweeps, as `make sweep` runs them but in a process each."""
    grid = started(STORE, "tau=each", "layer=each", "rho=[0.01,0.05,0.1,0.2,0.4]")
    some_fail = poisoned_sweep(STORE, poisoned(Path("poisoned")))
    finish(grid)
    finish(some_fail, exit_code=1)
    finish(started(STORE, "search=gradient", "search.top_matrices=2", "evaluation.limit=100", "sweep=gradient"))


@contextmanager
def served() -> Iterator[str]:
    """The address of the dashboard of the store."""
    command = [sys.executable, "-m", "laser_sweep.dashboard", str(STORE), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split(" at ")[1].split("/ ")[0]
    finally:
        process.terminate()
        process.wait()


def picture(browser: Any, address: str, name: str, scheme: str) -> None:
    """What a person sees at an address without scrolling."""
    context = browser.new_context(viewport=SCREEN, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("h1")
    page.wait_for_load_state("networkidle")
    page.wait_for_function(DRAWN, timeout=120_000)
    page.wait_for_timeout(500)  # fonts and the widths of columns settle
    IMAGES.mkdir(exist_ok=True)
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()


DRAWN = """[...document.querySelectorAll('figure')].filter((one) => one.offsetTop < 800)
  .every((one) => one.querySelector('.main-svg .trace, .main-svg .hm, .main-svg .bars'))"""


if __name__ == "__main__":
    main()
