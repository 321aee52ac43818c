"""Converters to LiteRT that run in isolated environments."""
