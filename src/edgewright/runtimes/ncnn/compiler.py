"""ncnn's files from ONNX: rewrites, pnnx, and a check of its result."""

import copy
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgewright.formats.onnx.qdq import ExtractedFloatModel
from edgewright.kernels.custom.folder import OperatorsFile, read_operators_file, write_operators
from edgewright.kernels.custom.place import find_operators_path
from edgewright.runtimes.contract import NotConvertible, Rejected
from edgewright.runtimes.ncnn.conversion.check import (
    HINT,
    blame_nodes,
    check_layers,
    check_outputs,
    describe_nodes,
    find_uncommon,
)
from edgewright.runtimes.ncnn.conversion.custom import (
    CustomNodes,
    close_rows,
    find_custom_nodes,
    get_blob_shape,
    open_graph,
)
from edgewright.runtimes.ncnn.conversion.int8 import describe_quantized, make_reference_model, quantize_layers
from edgewright.runtimes.ncnn.conversion.normalize import extract_floats, normalize_model, read_model
from edgewright.runtimes.ncnn.conversion.pnnx import PnnxFiles, run_pnnx
from edgewright.runtimes.ncnn.conversion.reshapes import fix_reshapes
from edgewright.runtimes.ncnn.matching import match_blobs
from edgewright.runtimes.ncnn.naming import join_rows, make_plain_name, name_blobs, name_layers, read_nodes
from edgewright.runtimes.ncnn.param import (
    ParamRow,
    find_index_inputs,
    make_input_params,
    make_shape_hint,
    read_param,
    write_param,
)
from edgewright.runtimes.ncnn.probe import run_all_blobs, run_all_tensors
from edgewright.runtimes.ncnn.session import import_ncnn
from edgewright.runtimes.wire import Compiled, CompileRequest
from edgewright.schema.arrays import Array
from edgewright.schema.artifact import IoMap, Port
from edgewright.schema.model import GraphNode
from edgewright.system.temporary import TemporaryFolder

TOOLS = ("onnx", "pnnx", "ncnn")
REFERENCE_FILE = "rounding.onnx"
LARGEST_RANK = 4  # of an ncnn blob


class Conversion(NamedTuple):
    """The result of pnnx for a source.

    Attributes:
        inputs, outputs: pnnx's blob by the source's name; an unread input has none.
        values: every tensor of the source in one run.
        feeds, blobs: the inputs of the same run in ncnn's form, and all results, by blob.
    """

    rows: Sequence[ParamRow]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    values: Mapping[str, Array]
    feeds: Mapping[str, Array]
    blobs: Mapping[str, Array]


class ConversionSource(NamedTuple):
    """A model to be converted, and the nodes that its layers are named after.

    Attributes:
        model: the float model.
        nodes: of the given source.
        extracted: the parts of a quantized source; None for a float source.
        operators: custom ones that the model may have; None if there are none.
    """

    model: Any
    nodes: Sequence[GraphNode]
    extracted: ExtractedFloatModel | None
    operators: OperatorsFile | None = None


def compile_model(request: CompileRequest) -> Compiled:
    """See `contract.Runtime.compile`. Only a QDQ model becomes one with INT8 layers."""
    source = _read_source(request)
    values = run_all_tensors(source.model)
    try:
        return _convert(request, source, values, retry=False)
    except NotConvertible as first:
        try:
            return _convert(request, source, values, retry=True)
        except NotConvertible:
            raise first from None


def _read_source(request: CompileRequest) -> ConversionSource:
    model = read_model(request.source)
    if request.precision != "w8a8":
        path = find_operators_path(Path())
        return ConversionSource(model, read_nodes(model), None, read_operators_file(path) if path else None)
    extracted = extract_floats(model)
    return ConversionSource(extracted.model, read_nodes(model), extracted)


def _convert(request: CompileRequest, given: ConversionSource, values: Mapping[str, Array], retry: bool) -> Compiled:
    custom = find_custom_nodes(given.model, given.operators.operators if given.operators else (), values)
    opened = open_graph(given.model, custom, values) if custom.nodes else copy.deepcopy(given.model)
    plain = normalize_model(opened, values, retry)  # it modifies its input
    with TemporaryFolder() as folder:
        files = _run_pnnx(folder, plain, half=request.precision == "fp16")
        conversion = _try_out(files, plain, values)
        check_outputs(conversion.outputs, values, conversion.blobs, conversion.rows, request.precision)
        return _write_artifact(request, given, conversion, files, custom)


def _run_pnnx(folder: Path, plain: Any, half: bool) -> PnnxFiles:
    """Return pnnx's files for a model; those of a model without nodes are empty."""
    if not plain.graph.node:
        param, weights = folder / "empty.param", folder / "empty.bin"
        write_param([], param)
        weights.write_bytes(b"")
        return PnnxFiles(param, weights, {})
    source = folder / "model.onnx"
    source.write_bytes(plain.SerializeToString())
    try:
        return run_pnnx(source, half)
    except NotConvertible as error:
        raise blame_nodes(str(error), plain.graph.node) from error


def _try_out(files: PnnxFiles, plain: Any, values: Mapping[str, Array]) -> Conversion:
    """Run pnnx's result on the inputs of `values`. Raises NotConvertible if this build of ncnn does not support a
    layer."""
    rows = read_param(files.param)
    if not rows:  # of a model that only has custom operators
        return Conversion((), {}, {}, values, {}, {})
    check_layers(import_ncnn(), rows, plain)
    inputs = {value.name: f"in{place}" for place, value in enumerate(plain.graph.input)}
    outputs = {value.name: f"out{place}" for place, value in enumerate(plain.graph.output)}
    indices = find_index_inputs(rows)
    feeds = {
        blob: _as_feed(name, values[name], files.batches.get(blob), np.int32 if blob in indices else np.float32)
        for name, blob in inputs.items()
    }
    try:
        blobs = run_all_blobs(files.param, files.weights, rows, feeds)
    except Rejected as error:
        unusual = describe_nodes(find_uncommon(plain.graph.node))
        raise NotConvertible(
            f"ncnn rejects what pnnx wrote ({error}); the likely operators are: {unusual}", HINT
        ) from error
    return Conversion(fix_reshapes(rows, blobs), inputs, outputs, values, feeds, blobs)


def _as_feed(name: str, value: Array, batch: int | None, dtype: Any) -> Array:
    """Return an input in ncnn's form: without the batch axis that pnnx found, and with at least one axis."""
    if batch is not None:
        if value.shape[batch] != 1:
            reason = (
                f"input '{name}' has a batch of {value.shape[batch]}, but an ncnn artifact supports a single sample"
            )
            raise NotConvertible(reason, f"give a shape whose axis {batch} is 1")
        value = np.squeeze(value, batch)
    if value.ndim > LARGEST_RANK:
        raise NotConvertible(f"input '{name}' has {value.ndim} axes, but ncnn supports at most {LARGEST_RANK}")
    return np.atleast_1d(value).astype(dtype)


def _write_artifact(
    request: CompileRequest,
    given: ConversionSource,
    conversion: Conversion,
    files: PnnxFiles,
    custom: CustomNodes,
) -> Compiled:
    """Name pnnx's blobs and layers after the source's tensors and nodes, and write the artifact."""
    sources = [value.name for value in given.model.graph.input if value.name in conversion.values]
    blob_names = name_blobs(conversion.rows, _match_tensors(conversion, given, half=request.precision == "fp16"))
    rows = name_layers([_renamed(row, blob_names) for row in conversion.rows], given.nodes)
    rows = [_unread_input(name, conversion) for name in sources if name not in conversion.inputs] + [
        _with_shapes(row, old, conversion) for row, old in zip(rows, conversion.rows, strict=True)
    ]
    origins = {row.name: found for row, found in zip(rows, join_rows(rows, given.nodes), strict=True) if found}
    main = Path(request.folder) / f"{request.stem}.param"
    notes: tuple[str, ...] = ()
    if custom.nodes and given.operators:
        shapes = {name: conversion.feeds[blob].shape for name, blob in conversion.inputs.items() if name not in sources}
        named = {name: blob_names[blob] for name, blob in (*conversion.inputs.items(), *conversion.outputs.items())}
        outputs = [value.name for value in given.model.graph.output]
        closed = close_rows(rows, custom._replace(names=named), conversion.values, shapes, outputs)
        rows = closed.rows
        origins |= {make_plain_name(node.name): (node.name,) for node in custom.nodes}
        write_operators(given.operators, closed.layers, main)
        main.with_suffix(".bin").write_bytes(closed.weights + files.weights.read_bytes())
    elif given.extracted is None:
        shutil.copyfile(files.weights, main.with_suffix(".bin"))
    else:
        kept = ("ConvolutionDepthWise",) if request.options.get("depthwise") == "fp32" else ()
        computed = join_rows(rows, read_nodes(given.extracted.model))
        made = quantize_layers(rows, files.weights.read_bytes(), computed, given.extracted, kept)
        rows, notes = made.rows, describe_quantized(made, given.extracted)
        main.with_suffix(".bin").write_bytes(made.weights)
        (main.parent / REFERENCE_FILE).write_bytes(
            make_reference_model(given.extracted, made.steps).SerializeToString()
        )
    write_param(rows, main)
    return Compiled(
        main=main.name,
        io_map=_map_io(sources, [value.name for value in given.model.graph.output], conversion, blob_names),
        tools={name: installed_version(name) for name in TOOLS},
        origins=origins,
        notes=notes,
        rounding_reference=REFERENCE_FILE if given.extracted is not None else "",
    )


def _match_tensors(conversion: Conversion, given: ConversionSource, half: bool) -> dict[str, str]:
    """Return the source's tensor by blob; inputs and outputs are known, others are found by their values."""
    known = {blob: name for name, blob in (*conversion.inputs.items(), *conversion.outputs.items())}
    own = {name for node in given.nodes for name in node.outputs} - set(known.values())
    others = {name: array for name, array in conversion.values.items() if name in own}
    return match_blobs(conversion.rows, conversion.blobs, others, half, set(known)) | known


def _renamed(row: ParamRow, names: Mapping[str, str]) -> ParamRow:
    return row._replace(bottoms=tuple(names[b] for b in row.bottoms), tops=tuple(names[t] for t in row.tops))


def _unread_input(name: str, conversion: Conversion) -> ParamRow:
    """Return the port of an unread input, which pnnx removes but callers still feed."""
    shape = np.atleast_1d(np.squeeze(conversion.values[name])).shape
    return ParamRow("Input", make_plain_name(name), (), (make_plain_name(name),), make_input_params(shape))


def _with_shapes(row: ParamRow, old: ParamRow, conversion: Conversion) -> ParamRow:
    """Return the rows with shapes of inputs and shape hints of outputs, so that the file alone has the model's
    signature.
    """
    if row.op == "Input":
        return row._replace(params=make_input_params(conversion.feeds[old.tops[0]].shape))
    if not set(conversion.outputs.values()).intersection(old.tops):
        return row
    return row._replace(params={**row.params, **make_shape_hint([conversion.blobs[top].shape for top in old.tops])})


def _map_io(sources: Sequence[str], results: Sequence[str], conversion: Conversion, names: Mapping[str, str]) -> IoMap:
    """Return the ports of the model's inputs and outputs; a custom layer's output has no blob of pnnx."""
    values = conversion.values
    inputs = []
    for name in sources:
        blob = conversion.inputs.get(name)
        feed = conversion.feeds[blob] if blob else np.atleast_1d(np.squeeze(values[name])).astype(np.float32)
        inputs.append(_as_port(name, names[blob] if blob else make_plain_name(name), values[name], feed))
    outputs = []
    for name in results:
        blob = conversion.outputs.get(name)
        made = conversion.blobs[blob] if blob else values[name].reshape(get_blob_shape(values[name]))
        outputs.append(_as_port(name, names[blob] if blob else make_plain_name(name), values[name], made))
    return IoMap(inputs=tuple(inputs), outputs=tuple(outputs))


def _as_port(source: str, name: str, value: Array, blob: Array) -> Port:
    """Return a port whose axes keep their order, without the batch of one."""
    return Port(
        source=source,
        name=name,
        source_shape=value.shape,
        source_dtype=value.dtype.name,
        axes=tuple(range(value.ndim)),
        shape=blob.shape,
        dtype=blob.dtype.name,
    )
