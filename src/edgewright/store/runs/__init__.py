"""Runs as rows: ids, queries, packed samples."""
