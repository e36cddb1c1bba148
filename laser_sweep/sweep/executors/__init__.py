"""Running work units: in this process, or on Ray."""
