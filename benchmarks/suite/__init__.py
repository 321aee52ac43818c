"""Seeded models of the families used on phones, written from their papers, for tests of converters and runtimes.

Nothing here imports torch before a model is built.
"""
