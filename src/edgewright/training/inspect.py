"""Look into a module: its graph under the names of its own parameters, its weights, and what they matter for the loss.

Leaves `named.onnx`, `weights.safetensors`, `inspected.json`, and `importance.npz` where that was asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgewright.compress.job import Step
from edgewright.errors import ModelNotConvertible, UsageError
from edgewright.formats.torch_program import OPSET, PROTOBUF_LIMIT, name_outputs, quiet
from edgewright.formats.torch_weights import save_weights
from edgewright.training.job import InspectJob, Laid, Word
from edgewright.training.source import evaluating, input_names, load_module, try_forward

Array = NDArray[Any]
Say = Callable[[Word], None]


class Inspected(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A module in figures.

    Attributes:
        parameters: elements of all parameters, tied ones counted once.
        macs: multiply-accumulates of one sample; None where a part of the graph does not tell.
        shapes: of parameters and buffers, by name.
        inputs, outputs: names and shapes.
        modules: class of each part, by its path.
    """

    schema: str = "edgewright.inspected/1"
    parameters: int
    macs: int | None
    shapes: dict[str, tuple[int, ...]]
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    modules: dict[str, str]


def run_inspect(job: InspectJob, say: Say) -> None:
    """Raises what `load_module` and `export_named` raise, UsageError where Taylor's scores have no data."""
    out = Path(job.out)
    steps = 3 if job.taylor else 2
    say(Step(stage="inspect", done=0, of=steps))
    module = load_module(job.module, job.settings.seed)
    named = out / "named.onnx"
    loaded = export_named(module, job.shapes, named)
    save_weights(module, out / "weights.safetensors")
    say(Step(stage="inspect", done=1, of=steps))
    told = Inspected(
        parameters=sum(one.numel() for one in module.parameters()),
        macs=count(named),
        shapes={name: tuple(one.shape) for name, one in tensors(module).items()},
        inputs={one.name: one.shape for one in loaded.inputs},
        outputs={one.name: one.shape for one in loaded.outputs},
        modules={path: type(part).__name__ for path, part in module.named_modules() if path},
    )
    (out / "inspected.json").write_bytes(msgspec.json.encode(told) + b"\n")
    say(Step(stage="inspect", done=2, of=steps))
    if job.taylor:
        np.savez(out / "importance.npz", **score(module, job, say))  # type: ignore[arg-type]  # numpy takes names
        say(Step(stage="inspect", done=3, of=steps))


def tensors(module: Any) -> dict[str, Any]:
    """Parameters and buffers under each of their names."""
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def count(path: Path) -> int | None:
    from edgewright.formats.costs import measure_costs
    from edgewright.formats.onnx_graph import read_onnx_graph

    return measure_costs(read_onnx_graph(path)).macs


def export_named(module: Any, shapes: Mapping[str, Sequence[int]], path: Path) -> Any:
    """Write the graph before any optimisation: initializers under the names of parameters and buffers, normalisation
    apart. Sizes are folded, and biases of zeros left out, which torch's exporter adds.

    Returns the module described as a program. Raises InputError, ModelNotConvertible.
    """
    import onnx
    import torch

    loaded = try_forward(module, shapes)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # an operator for a whole encoder layer says nothing of its weights
    try:
        with quiet(), torch.no_grad(), evaluating(module):
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
            fold_sizes(program.model)
    except Exception as error:  # the exporter raises what it pleases
        lines = str(error).strip().splitlines() or [""]
        raise ModelNotConvertible(
            "torch cannot export the model to ONNX", f"{type(error).__name__}: {lines[0][:400]}"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    model = program.model_proto
    own = tensors(module)
    drop_zero_biases(model.graph, own)
    name_nodes_by_layer(model.graph, own)
    onnx.save(model, str(path), save_as_external_data=model.ByteSize() > PROTOBUF_LIMIT, location=f"{path.name}.data")
    return loaded


def fold_sizes(model: Any) -> None:
    """Compute, in place, what depends on no input and on no number of a parameter."""
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


def drop_zero_biases(graph: Any, own: Mapping[str, Any]) -> None:
    from onnx import numpy_helper

    made = {one.name: one for one in graph.initializer if one.name not in own}
    zeros = {name for name, tensor in made.items() if not numpy_helper.to_array(tensor).any()}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and len(node.input) > 2 and node.input[2] in zeros:
            del node.input[2]
    read = {name for node in graph.node for name in node.input} | {one.name for one in graph.output}
    for name, tensor in made.items():
        if name not in read:
            graph.initializer.remove(tensor)


def name_nodes_by_layer(graph: Any, own: Mapping[str, Any]) -> None:
    """A node that reads a parameter, turned or not, is named as the layer that holds it; the first of a layer is."""
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    used = {node.name for node in graph.node}
    for node in graph.node:
        weight = next((turned.get(name, name) for name in node.input if turned.get(name, name) in own), "")
        layer = weight.rpartition(".")[0]
        if layer and layer not in used and node.op_type != "Transpose":
            node.name = layer
            used.add(layer)


def score(module: Any, job: InspectJob, say: Say) -> dict[str, Array]:
    """By name of a parameter the squared product of weight and gradient, each of a batch's mean loss, summed over the
    batches (Molchanov et al. 2019, https://arxiv.org/abs/1906.10771), in evaluation mode.
    """
    import torch

    if job.data is None or not job.data.fit:
        raise UsageError("Taylor's scores need data", "the job has none", "--data, or another importance")
    loss_of = make_loss(job)
    places = job.data.fit[: job.taylor_samples]
    sums = {name: torch.zeros_like(one) for name, one in module.named_parameters()}
    with evaluating(module), torch.enable_grad():
        for at in range(0, len(places), job.settings.batch):
            inputs, labels = read_batch(job.data, places[at : at + job.settings.batch])
            module.zero_grad(set_to_none=True)
            loss_of(module(*(inputs[name] for name in input_names(module, job.shapes))), labels).backward()
            for name, one in module.named_parameters():
                if one.grad is not None:
                    sums[name] += (one.detach() * one.grad).square()
            say(Step(stage="importance", done=min(at + job.settings.batch, len(places)), of=len(places)))
    by_tensor = {id(one): sums[name] for name, one in module.named_parameters()}
    every = module.named_parameters(remove_duplicate=False)
    return {name: by_tensor[id(one)].numpy() for name, one in every}


def read_batch(data: Laid, places: Sequence[int]) -> tuple[dict[str, Any], Any]:
    import torch

    rows = np.asarray(places, np.int64)

    def load(path: str) -> Any:
        return torch.from_numpy(np.load(path, mmap_mode="r", allow_pickle=False)[rows])

    return {name: load(path) for name, path in data.inputs.items()}, load(data.labels) if data.labels else None


def make_loss(job: InspectJob) -> Callable[[Any, Any], Any]:
    """Of a model's outputs and the labels."""
    from torch.nn import functional

    return lambda made, labels: functional.cross_entropy(made, labels)
