"""Static quantization: activations and weights in integers, with calibration data."""
