"""The demo: a digit classifier through every verb."""
