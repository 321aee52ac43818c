"""Prune a model within budgets, beside a control."""
