"""The child process of `source`: the normal form of a graph.

Functions are inlined, each If whose condition follows from constants and sizes is replaced by its branch, and old
opsets are raised. The order matters: a branch may be in a function, and a condition may follow from a fixed input.
"""

from pathlib import Path
from typing import Any

from msgspec import Struct

from edgewright.formats.isolated import answer_isolated
from edgewright.formats.onnx.attributes import keep_only
from edgewright.formats.onnx.constants import list_inputs_without_constants
from edgewright.formats.onnx.functions import inline_functions
from edgewright.formats.onnx.normalize.branches import has_branches, inline_branches
from edgewright.formats.onnx.normalize.inputs import fix_sizes, fix_values
from edgewright.formats.onnx.normalize.opset import find_opset, raise_opset
from edgewright.formats.onnx.prepare import name_nodes
from edgewright.formats.onnx.reader import map_model
from edgewright.limits import ResourceBudget

SEPARATE_CONSTANTS = 4  # the first version of the format whose inputs do not list the constants


class NormalizeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to fix, and the file for the result.

    Attributes:
        shapes: sizes of inputs.
        fixed: tensors that replace inputs, as serialized messages of onnx.
        to: path of the result, without the data of large weights.
    """

    shapes: dict[str, tuple[int, ...]]
    fixed: dict[str, bytes]
    to: str


class Normalized(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="normalized"):
    """Whether the model was changed and written."""

    changed: bool


def needs_normalizing(model: Any) -> bool:
    """Return whether a model may not be in the normal form yet."""
    return bool(model.functions) or has_branches(model.graph) or find_opset(model) is not None


def _normalize(model: Any, request: NormalizeRequest, budget: ResourceBudget) -> tuple[Any, bool]:
    """Return the model in normal form, and whether it changed.

    Args:
        model: without the data of large initializers.
    """
    from onnx import TensorProto

    own = model
    model = inline_functions(model, budget)
    changed = any([model is not own, name_nodes(model.graph), fix_sizes(model.graph, request.shapes)])
    if request.fixed:
        fix_values(model.graph, [TensorProto.FromString(tensor) for tensor in request.fixed.values()])
    changed = any([changed, request.fixed, inline_branches(model, budget)])
    if changed or find_opset(model) is not None:
        _separate_constants(model)
    raised = raise_opset(model)
    changed |= raised is not model
    return raised, any([changed, name_nodes(raised.graph)])


def _separate_constants(model: Any) -> None:
    """Remove constants from the inputs, among which versions of the format before 4 list them."""
    if model.ir_version < SEPARATE_CONSTANTS:
        model.ir_version = SEPARATE_CONSTANTS
        keep_only(model.graph.input, list_inputs_without_constants(model.graph))


def _normalize_file(path: Path, request: NormalizeRequest, budget: ResourceBudget) -> Normalized:
    """Write the model in normal form without the data of its large weights, unless nothing changes."""
    model, _ = map_model(path)
    model, changed = _normalize(model, request, budget)
    if changed:
        Path(request.to).write_bytes(model.SerializeToString())
    return Normalized(changed=changed)


if __name__ == "__main__":
    answer_isolated(NormalizeRequest, _normalize_file)
