"""ONNX to LiteRT without TensorFlow, in these stages.

    read      read the ONNX file into a small graph, with checks and limits
    shapes    infer static shapes, fold constants, expand constant branches and counted loops (`unroll`)
    rewrite   replace operators by equivalent supported ones
    fuse      fuse several operators into one: BatchNorm into Conv, activations, HardSwish, GELU, LayerNorm
    quantize  turn Q/DQ pairs into quantization parameters, keep quantized weights (`weight_only`)
    integer_io  integer I/O, if requested
    build     write each operator by its function in `operators`, in the layout that `layout` finds
    half      store weights as float16, if requested
    file      write the flatbuffer
    metadata  add labels and normalization, if given
    check     run the file in a separate process (`trial`)

Importing this module loads neither onnx nor LiteRT.
"""

from edgewright.runtimes.litert.writer.convert import Converted, ConvertedPort, Io, convert_onnx, onnx_to_litert
from edgewright.runtimes.litert.writer.metadata import TaskMetadata

__all__ = ["Converted", "ConvertedPort", "Io", "TaskMetadata", "convert_onnx", "onnx_to_litert"]
