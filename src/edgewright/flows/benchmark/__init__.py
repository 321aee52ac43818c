"""Measure candidates, report runs, compare them, repeat them."""
