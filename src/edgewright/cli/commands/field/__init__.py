"""Commands for models in use: policies, heat."""
