"""Use cases: each one combines lower layers, records its run, and reports progress."""
