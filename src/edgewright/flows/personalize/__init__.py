"""A model adapted to one user, whose data stays on this machine."""
