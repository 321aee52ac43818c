"""Train a student network with a teacher and compare it with a control."""
