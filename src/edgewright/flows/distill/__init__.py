"""Train a student network with a teacher, beside a control."""
