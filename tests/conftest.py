"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# On a CI machine the same examples every time, so that what fails there fails again here: CI=true pytest.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("default", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "default")
