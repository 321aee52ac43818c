"""Data sets and preprocessing: from files to the arrays that a model's inputs take."""
