"""Texts in the user's language: catalogs, and the choice of a language."""
