"""Quantization of a transformer's matrix products."""
