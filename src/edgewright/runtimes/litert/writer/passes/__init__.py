"""Rewrites of the writer's graph."""
