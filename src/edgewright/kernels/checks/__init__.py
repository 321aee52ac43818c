"""Checks of every kernel against numpy, on random shapes, strides and alignments and on the extremes."""
