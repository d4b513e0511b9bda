"""The HTTP face of a model file."""
