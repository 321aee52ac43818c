"""Task files: what a model's inputs and outputs mean."""
