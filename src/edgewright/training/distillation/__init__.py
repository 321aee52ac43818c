"""Losses of distillation, and students of a teacher's family."""
