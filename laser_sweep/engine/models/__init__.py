"""Loading a model and finding its matrices."""
