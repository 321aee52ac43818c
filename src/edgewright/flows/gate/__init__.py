"""Check a model's speed, size and accuracy against a baseline file."""
