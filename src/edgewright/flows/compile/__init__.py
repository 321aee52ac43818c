"""Compile one model for every runtime and prove each artifact's outputs."""
