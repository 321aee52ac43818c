"""Custom operators: kernels of the user that ONNX Runtime and ncnn run."""
