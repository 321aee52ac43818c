"""Conversion of TFLite files to ONNX, so that every converter and the quantizer can read them."""
