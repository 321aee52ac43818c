"""Describe a model and which runtimes support it, without running it."""
