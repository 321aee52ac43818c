"""Language models: evaluation, benchmark, memory."""
