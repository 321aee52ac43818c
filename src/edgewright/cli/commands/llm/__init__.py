"""`edgewright llm`: a module for each of its commands."""
