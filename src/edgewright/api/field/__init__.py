"""Functions for models in use: a server, a bundle of variants."""
