"""Run models on data: evaluation, single inferences."""
