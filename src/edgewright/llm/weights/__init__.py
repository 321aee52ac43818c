"""Quantization of a language model's weights."""
