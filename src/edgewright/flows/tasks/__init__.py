"""Create, check and show task files."""
