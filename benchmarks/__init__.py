"""Measurements, each of both sides in one run on the same work: `python -m benchmarks.NAME`."""
