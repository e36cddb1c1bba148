"""Telling experiment trackers about results."""
