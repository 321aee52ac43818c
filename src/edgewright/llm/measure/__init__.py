"""Memory and speed of language models."""
