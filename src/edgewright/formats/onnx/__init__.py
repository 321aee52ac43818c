"""ONNX models: signature, typed graph, quantization parameters, external weights."""
