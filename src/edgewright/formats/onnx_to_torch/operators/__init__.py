"""The operators that are known, by ONNX's names."""

from edgewright.formats.onnx_to_torch.call import Operator
from edgewright.formats.onnx_to_torch.operators import (
    elementwise,
    matmul,
    normalisation,
    recurrent,
    reduction,
    resize,
    rounding,
    structure,
    window,
)

OPERATORS: dict[str, Operator] = {
    **elementwise.TABLE,
    **matmul.TABLE,
    **normalisation.TABLE,
    **recurrent.TABLE,
    **reduction.TABLE,
    **resize.TABLE,
    **rounding.TABLE,
    **structure.TABLE,
    **window.TABLE,
}
