"""From a model of the suite to files: ONNX by either of torch's exporters, and the torch program itself."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

import edgewright  # noqa: F401 - switches off what ONNX Runtime sends, before it is imported
from benchmarks.suite.settle import make_inputs
from benchmarks.suite.table import Entry

DYNAMO_OPSET, TORCHSCRIPT_OPSET = 18, 17
# Share of the largest number of the output by which ONNX Runtime may differ from torch.
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file, and how far ONNX Runtime's outputs of it are from torch's own."""

    path: Path
    bytes: int
    max_abs: float
    deviation: float


class NotEqualError(Exception):
    """The exported file does not compute what the model computes."""


def export_onnx(entry: Entry, model: nn.Module, path: Path, *, torchscript: bool) -> Written:
    """Raises NotEqualError where ONNX Runtime does not agree with torch."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of every absent torchvision operator
    inputs = make_inputs(entry, 1, seed=2)
    names = [port.name for port in entry.inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters warn of their own deprecations
        if torchscript:
            export_torchscript(entry, model, inputs, names, path)
        else:
            program = torch.onnx.export(
                model,
                inputs,
                dynamo=True,
                opset_version=DYNAMO_OPSET,
                input_names=names,
                output_names=list(entry.outputs),
                verbose=False,
            )
            program.save(str(path), external_data=False)
    strip(path)
    return check(model, inputs, names, path)


def export_torchscript(
    entry: Entry, model: nn.Module, inputs: tuple[Tensor, ...], names: list[str], path: Path
) -> None:
    torch.onnx.export(
        model,
        inputs,
        str(path),
        dynamo=False,
        opset_version=TORCHSCRIPT_OPSET,
        input_names=names,
        output_names=list(entry.outputs),
    )


def strip(path: Path) -> None:
    """Without the places in source code, which name the machine's folders and so vary."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [(entry.key, entry.value) for entry in node.metadata_props if "stack_trace" not in entry.key]
        del node.metadata_props[:]
        for key, value in kept:
            node.metadata_props.add(key=key, value=value)
        node.doc_string = ""
    path.write_bytes(model.SerializeToString(deterministic=True))


def check(model: nn.Module, inputs: tuple[Tensor, ...], names: list[str], path: Path) -> Written:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    got = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    with torch.no_grad():
        wanted = model(*inputs)
    expected = [value.numpy() for value in (wanted if isinstance(wanted, tuple) else (wanted,))]
    distance = max(float(np.abs(a - b).max()) for a, b in zip(got, expected, strict=True))
    for a, b in zip(got, expected, strict=True):
        if not np.isfinite(a).all() or np.abs(a - b).max() > TOLERANCE * np.abs(b).max():
            raise NotEqualError(f"{path.name}: max abs {np.abs(a - b).max():.3g}")
    return Written(path=path, bytes=path.stat().st_size, max_abs=distance, deviation=float(expected[0].std()))


def save_program(entry: Entry, model: nn.Module, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own deprecations
        torch.export.save(torch.export.export(model, make_inputs(entry, 1, seed=2)), path)
