"""Torch programs and weights."""
