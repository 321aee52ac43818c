"""The supported operators by ONNX's names."""

from edgewright.formats.onnx_to_torch.call import TorchOperator
from edgewright.formats.onnx_to_torch.operators import (
    elementwise,
    matmul,
    normalization,
    qdq,
    recurrent,
    reduction,
    resize,
    structure,
    window,
)

OPERATORS: dict[str, TorchOperator] = {
    **elementwise.TABLE,
    **matmul.TABLE,
    **normalization.TABLE,
    **recurrent.TABLE,
    **reduction.TABLE,
    **resize.TABLE,
    **qdq.TABLE,
    **structure.TABLE,
    **window.TABLE,
}
