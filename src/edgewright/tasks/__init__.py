"""What a model is for: how inputs become tensors, and how outputs are scored."""
