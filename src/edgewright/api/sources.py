"""Models and inputs in memory, as files."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from inspect import BoundArguments, Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.api.values import check_utf8
from edgewright.bench.feeds import write_feeds
from edgewright.errors import ModelNotConvertible, UsageError
from edgewright.flows.compile.sources import prepare_source
from edgewright.flows.devices.names import open_device
from edgewright.schema.plan import CompilePlan

MODEL_KINDS = "a model is a path, an onnx.ModelProto, or a torch.nn.Module with inputs="


def write_model(model: Any, given: dict[str, Any], folder: Path, *, as_onnx: bool) -> str:
    """Return the path of a model; one in memory is written into the new `folder`.

    Args:
        given: the options; for a torch module `inputs` are its example inputs, from which `shapes` is set. They stay
            the inputs only with `as_onnx`.
        as_onnx: whether a torch module is exported to ONNX.

    Raises:
        UsageError: it is neither a path nor a model, or a torch module has no example inputs.
        ModelNotConvertible: torch cannot export the module.
    """
    if isinstance(model, str | Path):
        check_utf8("the path of a model", str(model))
        return str(model)
    folder.mkdir()
    if _is_torch_module(model):
        if "inputs" not in given:
            why = "torch exports a module by running it on example inputs"
            raise UsageError("a torch module needs example inputs", why, "add inputs=(x,), with one tensor per input")
        examples = _bind_examples(model, given["inputs"])
        arrays = {name: _to_array(tensor) for name, tensor in _name_examples(examples).items()}
        given.setdefault("shapes", {name: array.shape for name, array in arrays.items()})
        if as_onnx:
            given["inputs"] = arrays
        else:  # the check draws its inputs as for a file: a single example would hide differences
            del given["inputs"]
        path = _save_program(model, examples, folder)
        return _convert_to_onnx(path, given["shapes"], folder) if as_onnx else str(path)
    return str(_write_onnx(model, folder))


def _is_torch_module(model: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _write_onnx(model: Any, folder: Path) -> Path:
    import onnx

    if not isinstance(model, onnx.ModelProto):
        raise UsageError(f"a {type(model).__name__} is not a model", MODEL_KINDS, "give the path of a model file")
    path = folder / f"{_make_stem(model.graph.name)}.onnx"
    is_large = model.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF
    onnx.save(model, path, save_as_external_data=is_large, location=f"{path.name}.data" if is_large else None)
    return path


def _make_stem(name: str) -> str:
    """Return a file name for a graph or a class; never empty."""
    return (
        "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name[:40]).strip("_") or "model"
    )


def _bind_examples(module: Any, inputs: Any) -> BoundArguments:
    """Return the example inputs as arguments of `forward`; UsageError if they do not fit its parameters."""
    expected = signature(module.forward)
    try:
        if isinstance(inputs, Mapping):
            return expected.bind(**inputs)
        return expected.bind(*(inputs if isinstance(inputs, Sequence) else [inputs]))
    except TypeError as error:
        what = f"the example inputs do not fit {type(module).__name__}.forward"
        raise UsageError(what, str(error), f"its parameters are {', '.join(expected.parameters)}") from None


def _name_examples(examples: BoundArguments) -> dict[str, Any]:
    """Return the example inputs by the names that torch.export gives them, in the order of the parameters."""
    named: dict[str, Any] = {}
    for name, value in examples.arguments.items():
        kind = examples.signature.parameters[name].kind
        if kind is Parameter.VAR_POSITIONAL:
            named |= {f"{name}_{i}": one for i, one in enumerate(value)}
        else:
            named |= value if kind is Parameter.VAR_KEYWORD else {name: value}
    return named


def _to_array(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)


def _save_program(module: Any, examples: BoundArguments, folder: Path) -> Path:
    """Write the module as a program of torch.export, in evaluation mode."""
    torch = sys.modules["torch"]
    path, was_training = folder / f"{_make_stem(type(module).__name__).lower()}.pt2", module.training
    module.eval()
    try:
        tensors = tuple(torch.as_tensor(one) for one in examples.args)
        named = {name: torch.as_tensor(one) for name, one in examples.kwargs.items()}
        with torch.no_grad():
            torch.export.save(torch.export.export(module, tensors, named), path)
    except (Exception, SystemExit) as error:  # torch has many exception classes; `forward` may call sys.exit
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        what = f"the module {type(module).__name__} cannot be exported"
        raise ModelNotConvertible(
            what, why, "torch.export.export(module, inputs) shows torch's own messages"
        ) from error
    finally:
        module.train(was_training)
    return path


def _convert_to_onnx(path: Path, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> str:
    plan = CompilePlan(source=str(path), cells=(), shapes=dict(shapes))
    with closing(open_device("local")) as device:
        prepared = prepare_source(plan, folder, device, bare=True).files["onnx"]
    return str(Path(prepared).rename(path.with_suffix(".onnx")))


def write_inputs(inputs: Mapping[str, Any], path: Path) -> str:
    """Write arrays by name as .npz, and return the path; UsageError if they have no names."""
    if not isinstance(inputs, Mapping):
        why = f"inputs= is a {type(inputs).__name__}"
        raise UsageError("the inputs have no names", why, 'give a file, or arrays by input: inputs={"x": array}')
    arrays = {name: _to_array(array) for name, array in inputs.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biufcSU":
            why = f"its type is {array.dtype}, neither numbers nor texts"
            raise UsageError(f"the input {name!r} is no array of numbers", why, 'inputs={"x": numpy array}')
    write_feeds(path, arrays)
    return str(path)
