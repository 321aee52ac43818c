"""Language models: sources, the reference computation, quantized weights, and engines."""
