"""Exported runs: writing, reading and verification."""
