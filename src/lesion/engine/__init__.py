"""Training, export and evaluation: what the commands call."""
