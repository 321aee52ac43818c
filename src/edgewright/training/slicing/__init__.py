"""Remove channels of a torch module, or set single weights to zero."""
