"""What `python -m laser_sweep.store` can do, a module for each command."""
