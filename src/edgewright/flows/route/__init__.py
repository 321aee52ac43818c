"""`route`: easy inputs to a small model, hard ones to a larger one."""
