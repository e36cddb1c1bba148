"""Hydra's way into laser_sweep: a sweeper that keeps the axes of an edit inside one job, and a launcher."""
