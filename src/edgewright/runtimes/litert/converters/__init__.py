"""Converters to LiteRT that live in isolated environments."""
