"""What all tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from .browser import MISSING, launch
from .wandb_server import WandbServer

# On a CI machine the same examples every time, so that what fails there fails again here: CI=true pytest.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("default", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config: pytest.Config) -> None:
    """No test, nor any process that one starts, reads or writes this user's caches."""
    cache = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="laser-sweep-tests-")
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, of the system or of playwright; tests that need one are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        launched = launch(playwright)
        if launched is None:
            pytest.skip(MISSING)
        yield launched
        launched.close()


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    """The other end of W&B's network."""
    with WandbServer().running() as server:
        yield server
