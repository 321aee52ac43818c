"""Demo: a digit classifier that is compiled, quantized, evaluated and benchmarked."""
