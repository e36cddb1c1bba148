"""The file that says of a directory that it is an export, and of what."""

from __future__ import annotations

MANIFEST = "laser_sweep.json"
