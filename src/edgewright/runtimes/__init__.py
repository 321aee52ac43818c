"""How a model becomes runnable: one folder per runtime, independent of each other."""
