"""The browser of the tests: `python -m tests.browser` sees to one, and is never in the way where there is none."""

from __future__ import annotations

import os
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
    """For `make test`: uses a browser that is there, else installs one, else says how to. Never fails."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        there = executable(playwright)
    if there is None and not _installed():
        print(f"{MISSING}; the tests that need it are skipped")


def _installed() -> bool:
    """Whether playwright could fetch its Chromium, which it gives up early where there is no network."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "playwright", "install", "chromium"],
            env={**os.environ, "PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT": "3000"},
            capture_output=True,
            timeout=300,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    main()
