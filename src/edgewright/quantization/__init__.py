"""Post-training quantization of ONNX models, in a worker process."""
