"""Prune a model within budgets and compare it with a control."""
