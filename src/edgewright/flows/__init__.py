"""The verbs: each joins rooms, records its run, and reports progress."""
