"""Table of the XNNPACK operators that compute a TFLite operator.

The kinds are XNNPACK's operator names (`src/operator-utils.c`, as in the events' tags) before the
parenthesis. Source of the mapping: the delegate's node visitors in `tflite/delegates/xnnpack/xnnpack_delegate.cc`.
"""

_RESHAPES = ("Static Reshape", "Static Expand Dims", "Fuse Dims", "Split Dims", "Copy")

MAIN: dict[str, tuple[str, ...]] = {
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "TRANSPOSE_CONV": ("Deconvolution",),
    "FULLY_CONNECTED": ("Fully Connected", "Dynamic Fully Connected"),
    "BATCH_MATMUL": ("Batch Matrix Multiply", "Fully Connected", "Dynamic Fully Connected"),
    "AVERAGE_POOL_2D": ("Average Pooling", "Mean"),
    "MAX_POOL_2D": ("Max Pooling",),
    "MEAN": ("Mean",),
    "SUM": ("Sum",),
    "REDUCE_MAX": ("Reduce Max",),
    "REDUCE_MIN": ("Reduce Min",),
    "ADD": ("Add",),
    "SUB": ("Subtract",),
    "MUL": ("Multiply",),
    "DIV": ("Divide",),
    "MAXIMUM": ("Maximum",),
    "MINIMUM": ("Minimum",),
    "POW": ("Power",),
    "SQUARED_DIFFERENCE": ("Squared Difference",),
    "PRELU": ("PReLU",),
    "RELU": ("Clamp",),
    "RELU6": ("Clamp",),
    "RELU_N1_TO_1": ("Clamp",),
    "RELU_0_TO_1": ("Clamp",),
    "LEAKY_RELU": ("LeakyReLU",),
    "ELU": ("ELU",),
    "GELU": ("GELU", "ApproxGELU"),
    "HARD_SWISH": ("HardSwish",),
    "LOGISTIC": ("Sigmoid",),
    "TANH": ("TanH",),
    "SOFTMAX": ("Softmax",),
    "ABS": ("Abs",),
    "NEG": ("Negate",),
    "SQUARE": ("Square",),
    "SQRT": ("Square Root",),
    "RSQRT": ("Reciprocal Square Root",),
    "EXP": ("Exp",),
    "LOG": ("Log",),
    "SIN": ("Sine",),
    "COS": ("Cosine",),
    "SIGN": ("Sign",),
    "FLOOR": ("Floor",),
    "CEIL": ("Ceiling",),
    "ROUND": ("Bankders Rounding", "Bankers Rounding"),
    "QUANTIZE": ("Convert",),
    "DEQUANTIZE": ("Convert",),
    "CAST": ("Convert",),
    "PAD": ("Constant Pad",),
    "PADV2": ("Constant Pad",),
    "RESHAPE": _RESHAPES,
    "SQUEEZE": _RESHAPES,
    "EXPAND_DIMS": _RESHAPES,
    "TRANSPOSE": ("Transpose", "Copy"),
    "SLICE": ("Slice", "Copy"),
    "STRIDED_SLICE": ("Slice", "Copy"),
    "CONCATENATION": ("Copy",),
    "PACK": ("Copy",),
    "SPLIT": ("Copy", "Slice"),
    "SPLIT_V": ("Copy", "Slice"),
    "DEPTH_TO_SPACE": ("Depth To Space",),
    "SPACE_TO_DEPTH": ("Space To Depth",),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
}

# One event for each input or output.
REPEATED = frozenset(("CONCATENATION", "PACK", "SPLIT", "SPLIT_V"))

# Inserted before an operator: flattening, quantization of its input, a transposed operand.
HELPERS_BEFORE: dict[str, tuple[str, ...]] = {
    "FULLY_CONNECTED": ("Static Reshape", "Convert", "Transpose"),
    "BATCH_MATMUL": ("Static Reshape", "Convert", "Transpose"),
    "CONV_2D": ("Convert", "Constant Pad"),
    "DEPTHWISE_CONV_2D": ("Convert", "Constant Pad"),
    "TRANSPOSE_CONV": ("Convert",),
}

# Inserted after it: the activation that the file fuses into these and XNNPACK does not.
CLAMP = "Clamp"
CLAMPED = frozenset(
    (
        *("ADD", "SUB", "MUL", "DIV", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"),
        *("AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION"),
    )
)

PADS = frozenset(("PAD", "PADV2"))
ACTIVATIONS = frozenset(("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"))

# May have no event: fused into a neighbor, done once at load, or without effect on memory.
VANISHING = PADS | ACTIVATIONS | {"DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"}
