"""ONNX to MNN: rewrites before MNN's converter, INT8 and half precision after it."""
