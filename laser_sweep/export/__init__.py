"""Edited models as checkpoints: dense, or as the factors that the edits leave."""
