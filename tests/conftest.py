"""What all tests share."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import settings

# On a CI machine the same examples every time, so that what fails there fails again here: CI=true pytest.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("default", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config: pytest.Config) -> None:
    """No test, nor any process that one starts, reads or writes this user's caches."""
    cache = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="laser-sweep-tests-")
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
