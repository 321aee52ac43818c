"""Formats of the key and value cache of a language model."""
