"""Output: stdout, stderr, tables."""
