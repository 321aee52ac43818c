"""Which channels, heads and neurons hang together, and a graph without some of them. Needs no torch."""
