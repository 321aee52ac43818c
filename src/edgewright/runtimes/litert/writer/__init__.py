"""ONNX to LiteRT without TensorFlow: the stations of the road, in order.

    read      the ONNX file becomes a small graph, checked and bounded
    shapes    static shapes, constants folded
    rewrite   operators that are others in disguise
    fuse      pieces become one operator: BatchNorm into Conv, activations, HardSwish, GELU, LayerNorm
    quantise  QuantizeLinear/DequantizeLinear pairs become parameters of tensors
    build     each operator is written by its function in `operators`, in the layout that `layout` finds
    file      the flatbuffer

Importing this module loads neither onnx nor LiteRT.
"""

from edgewright.runtimes.litert.writer.convert import Converted, Output, convert_onnx, onnx_to_litert

__all__ = ["Converted", "Output", "convert_onnx", "onnx_to_litert"]
