"""The browser of the tests: `python -m tests.browser` sees to one, and is never in the way where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing that a page asks for leaves this machine
)
MISSING = "no browser: apt install chromium, or python -m playwright install chromium"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable(playwright: Any) -> str | None:
    """Chromium of the system, else playwright's own; None where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None) or playwright.chromium.executable_path
    return found if Path(found).exists() else None


def launch(playwright: Any) -> Any | None:
    """A running browser that asks nobody for anything of its own accord; None where there is none."""
    path = executable(playwright)
    return None if path is None else playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))


def main() -> None:
    """For `make test`: uses a browser that is there, else tries to install one, else says how to."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        there = executable(playwright)
    if there is None:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "playwright", "install", "chromium"], capture_output=True, timeout=300
            )
            installed = done.returncode == 0
        except subprocess.TimeoutExpired:
            installed = False
        if not installed:
            print(f"{MISSING}; tests that need it are skipped")


if __name__ == "__main__":
    main()
