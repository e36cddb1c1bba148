"""Replacing a weight by an approximation of itself, in place, and putting it back bit for bit."""
