"""Quantize a model once for every runtime."""
