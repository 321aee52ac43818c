"""Edgewright takes a trained model to phones and edge devices, and measures what it does there."""

__version__ = "0.1.0"
