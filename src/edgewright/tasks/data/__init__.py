"""Datasets and preprocessing: from files to the arrays of a model's inputs."""
