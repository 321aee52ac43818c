"""Graph of a model, colored by what a run found out about its nodes."""
