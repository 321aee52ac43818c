"""ONNX to LiteRT without TensorFlow: the stages of the road, in order.

    read      the ONNX file becomes a small graph, checked and bounded
    shapes    static shapes, constants folded, decided branches and counted loops expanded (`unroll`)
    rewrite   operators that are others in disguise
    fuse      pieces become one operator: BatchNorm into Conv, activations, HardSwish, GELU, LayerNorm
    quantize  QuantizeLinear/DequantizeLinear pairs become parameters of tensors, weights stay quantized (`lighten`)
    border    integers at the border, where they are asked for
    build     each operator is written by its function in `operators`, in the layout that `layout` finds
    half      weights of 16 bits, where they are asked for
    file      the flatbuffer
    metadata  labels and normalization, where they are given
    check     the file tried in a process of its own (`trial`)

Importing this module loads neither onnx nor LiteRT.
"""

from edgewright.runtimes.litert.writer.convert import Converted, ConvertedPort, Io, convert_onnx, onnx_to_litert
from edgewright.runtimes.litert.writer.metadata import TaskMetadata

__all__ = ["Converted", "ConvertedPort", "Io", "TaskMetadata", "convert_onnx", "onnx_to_litert"]
