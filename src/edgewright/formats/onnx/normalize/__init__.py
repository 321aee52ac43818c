"""The normal form of an ONNX model, from which all converters and the quantizer start."""
