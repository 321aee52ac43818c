"""Seeded models of the families people take to phones, written from their papers, to try converters and runtimes on.

Nothing here imports torch before a model is built.
"""
