"""Exported runs: written, read, verified."""
