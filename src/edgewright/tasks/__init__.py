"""Tasks: preprocessing of inputs, datasets, and evaluation of outputs."""
