"""Evaluation metrics with intervals."""
