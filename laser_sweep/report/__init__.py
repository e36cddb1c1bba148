"""The static page of a store: what was found, for people who were not there. `python -m laser_sweep.report`."""
