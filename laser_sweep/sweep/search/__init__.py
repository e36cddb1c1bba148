"""Which trials to ask for."""
