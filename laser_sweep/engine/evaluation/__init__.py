"""Asking a model every example of a task and scoring what it says."""
