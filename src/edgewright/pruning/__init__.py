"""Structured and unstructured pruning of ONNX graphs, without torch."""
