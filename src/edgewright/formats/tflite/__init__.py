"""TFLite models: signature, graph, precision."""
