"""How a model becomes runnable: one folder per runtime, strangers to each other."""
