"""Distillation losses, and students derived from a teacher."""
