"""Pages of the models: families as matrices of runtime and precision, with what to ship."""
