"""A module's ONNX graph with the names of its parameters, for finding groups."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewright.formats.neighbors import find_read_names
from edgewright.formats.onnx.constants import read_array
from edgewright.formats.onnx.external import needs_data_file
from edgewright.formats.torch.program import OPSET, make_export_error, name_outputs, silence_exporter
from edgewright.training.modules import evaluation_mode, get_named_tensors, try_forward


def export_named(module: Any, shapes: Mapping[str, Sequence[int]], path: Path) -> Any:
    """Write the graph before any optimization: initializers with the names of parameters and buffers, normalization not
    folded. Sizes are folded, and zero biases that torch's exporter adds are removed.

    Returns the module described as a program. Raises InputError, ModelNotConvertible.
    """
    import onnx
    import torch

    loaded = try_forward(module, shapes)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a single operator for an encoder layer hides its weights
    try:
        with silence_exporter(), torch.no_grad(), evaluation_mode(module):
            program = torch.onnx.export(
                module,
                loaded.examples,
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=OPSET,
                input_names=[one.name for one in loaded.inputs],
                output_names=name_outputs(len(loaded.outputs)),
            )
            _fold_sizes(program.model)
    except Exception as error:  # the exporter raises various errors
        raise make_export_error(error) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    model = program.model_proto
    own = get_named_tensors(module)
    _drop_zero_biases(model.graph, own)
    _name_nodes_by_layer(model.graph, own)
    onnx.save(model, str(path), save_as_external_data=needs_data_file(model), location=f"{path.name}.data")
    return loaded


def _fold_sizes(model: Any) -> None:
    """Fold, in place, everything that depends on no input and on no parameter value."""
    from onnx_ir.passes.common import InlinePass, RemoveUnusedNodesPass
    from onnxscript.optimizer import fold_constants

    own = {value.name for value in model.graph.initializers.values()}

    def fold(node: Any) -> bool | None:
        reads = any(one is not None and one.name in own for one in node.inputs)
        return False if reads and node.op_type not in ("Shape", "Size") else None

    InlinePass()(model)
    for _ in range(2):
        fold_constants(model, onnx_shape_inference=True, should_fold=fold)
        RemoveUnusedNodesPass()(model)


def _drop_zero_biases(graph: Any, own: Mapping[str, Any]) -> None:
    made = {one.name: one for one in graph.initializer if one.name not in own}
    zeros = {name for name, tensor in made.items() if not read_array(tensor).any()}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) > 2 and node.input[2] in zeros:
            del node.input[2]
    read = find_read_names(graph.node) | {one.name for one in graph.output}
    for name, tensor in made.items():
        if name not in read:
            graph.initializer.remove(tensor)


def _name_nodes_by_layer(graph: Any, own: Mapping[str, Any]) -> None:
    """Name the first node that reads a layer's parameter, transposed or not, after the layer."""
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    used = {node.name for node in graph.node}
    for node in graph.node:
        weight = next((turned.get(name, name) for name in node.input if turned.get(name, name) in own), "")
        layer = weight.rpartition(".")[0]
        if layer and layer not in used and node.op_type != "Transpose":
            node.name = layer
            used.add(layer)
