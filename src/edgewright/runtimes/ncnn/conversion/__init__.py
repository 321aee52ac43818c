"""ONNX to ncnn: rewrites before pnnx, INT8 after it."""
