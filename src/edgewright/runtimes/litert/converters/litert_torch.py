"""Conversion of a torch program to TFLite by litert-torch.

It has faults that only a comparison with the source shows: a MaxPool2d padded on one axis silently becomes another
pool, and recurrent networks are unrolled. So callers must compare the file with its source.
"""

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

from edgewright.errors import EdgewrightError
from edgewright.formats.torch.weights import load_weights
from edgewright.runtimes.contract import NotConvertible
from edgewright.runtimes.litert.converters.ports import ReferenceIo, make_feed
from edgewright.runtimes.wire import CompileRequest
from edgewright.schema.arrays import Array


class TorchProgram(NamedTuple):
    """A torch module in evaluation mode, and generated inputs for it by the names of forward's parameters, in order."""

    module: Any
    feeds: dict[str, Array]


def convert_torch_program(request: CompileRequest, folder: Path) -> tuple[Path, ReferenceIo]:
    """Return the TFLite file that litert-torch makes in `folder`, and the source's outputs. Raises NotConvertible with
    its reason.
    """
    import torch

    program = _load_program(request)
    tensors = [torch.from_numpy(array) for array in program.feeds.values()]
    with torch.no_grad():
        outputs = _flatten(program.module(*tensors))
    made = folder / "model.tflite"
    try:
        _call_litert_torch(program, tensors, outputs, made, in_order=request.options.get("io") == "source")
    except Exception as error:  # torch, jax and MLIR have exception classes of their own
        raise NotConvertible(_explain(error), "compile the model from its ONNX export") from error
    names = {name: f"args_{position}" for position, name in enumerate(program.feeds)}
    given = dict(zip(_output_names(len(outputs)), outputs, strict=True))
    names |= {name: f"output_{position}" for position, name in enumerate(given)}
    return made, ReferenceIo(program.feeds, {name: tensor.numpy() for name, tensor in given.items()}, names)


def _call_litert_torch(
    program: TorchProgram, tensors: Sequence[Any], outputs: Sequence[Any], made: Path, *, in_order: bool
) -> None:
    """Convert a program. Images, here all tensors of four axes, get their channels last unless `in_order`."""
    import litert_torch

    module, samples = program.module, list(tensors)
    images = [position for position, tensor in enumerate(tensors) if tensor.ndim == 4 and not in_order]
    results = [position for position, tensor in enumerate(outputs) if tensor.ndim == 4 and not in_order]
    if images or results:
        module = litert_torch.to_channel_last_io(module, args=images, outputs=results)
    for position in images:
        samples[position] = samples[position].permute(0, 2, 3, 1).contiguous()
    litert_torch.convert(module.eval(), tuple(samples)).export(str(made))


def _explain(error: Exception) -> str:
    """Return the compiler's error without the position in torch's sources and the operator's text, or the last
    line.
    """
    text = str(error).strip()
    if marked := re.findall(r"error: (.+?)(?:: %|$)", text, re.MULTILINE):
        return "\n".join(dict.fromkeys(line[:300] for line in marked[:3]))
    return f"{type(error).__name__}: {(text.splitlines() or [''])[-1][:300]}"


def _output_names(count: int) -> list[str]:
    """Return generated names, since a torch program does not name its outputs."""
    return ["output"] if count == 1 else [f"output_{position}" for position in range(count)]


def _flatten(value: Any) -> list[Any]:
    """Return the tensors in the result of `forward`, in torch's order."""
    from torch.utils._pytree import tree_leaves

    return [leaf.detach() for leaf in tree_leaves(value) if hasattr(leaf, "detach")]


def _load_program(request: CompileRequest) -> TorchProgram:
    """Return the module of a request. Raises NotConvertible if it is not a program."""
    source, colon, factory = request.source.rpartition(":")
    if colon and source.endswith(".py"):
        return _build_module(Path(source), factory, request.options.get("weights", ""), request.shapes)
    if Path(request.source).suffix == ".pt2":
        return _read_exported(Path(request.source), request.shapes)
    raise NotConvertible(
        f"litert-torch does not accept {Path(request.source).name}",
        "give an exported program (torch.export.save, .pt2), or FILE.py:FACTORY",
    )


def _build_module(path: Path, factory: str, weights: str, shapes: Mapping[str, Sequence[int]]) -> TorchProgram:
    """Call the user's function, and load the given weights. Inputs are float32."""
    module = _call_factory(path, factory)
    if weights:
        try:
            load_weights(module, Path(weights))
        except EdgewrightError as error:
            raise NotConvertible(str(error), error.try_this) from error
    known = list(inspect.signature(module.forward).parameters)
    if unknown := shapes.keys() - set(known):
        raise NotConvertible(
            f"forward has no input '{min(unknown)}', only {', '.join(known)}", "use these names in --shape"
        )
    names = [name for name in known if name in shapes]
    feeds = {name: make_feed(shapes[name], "float32", position) for position, name in enumerate(names)}
    return TorchProgram(module.eval(), feeds)


def _call_factory(path: Path, factory: str) -> Any:
    """Return the result of the function `factory` of a file, which can import files beside it."""
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise NotConvertible(f"{path} is not a Python file")
    sys.path.insert(0, str(path.parent))
    try:
        file = module_from_spec(spec)
        spec.loader.exec_module(file)
        return getattr(file, factory)()
    finally:
        sys.path.remove(str(path.parent))


def _read_exported(path: Path, shapes: Mapping[str, Sequence[int]]) -> TorchProgram:
    """Return a program that torch.export.save wrote; the types are those of its example inputs."""
    import torch

    exported = torch.export.load(path)
    names = list(exported.graph_signature.user_inputs)
    specs = {node.name: node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder"}
    feeds = {}
    for position, name in enumerate(names):
        dtype = str(specs[name].dtype).removeprefix("torch.")
        feeds[name] = make_feed(shapes.get(name, tuple(specs[name].shape)), dtype, position)
    return TorchProgram(exported.module(), feeds)
