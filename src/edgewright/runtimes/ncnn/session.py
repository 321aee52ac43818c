"""A model in ncnn; runs in the worker."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.runtimes.contract import Mismatch, Rejected, check_feeds
from edgewright.runtimes.ncnn.custom_layers import failures, read_layers, register_layers
from edgewright.runtimes.ncnn.param import (
    ParamRow,
    find_index_inputs,
    find_output_blobs,
    read_hinted_shape,
    read_input_shape,
    read_param,
)
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature, TensorSpec

# libgomp reads these once, when it is loaded: waiting threads sleep instead of spinning.
QUIET = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
HALF_TAG = 0x01306B47  # precedes weights in half precision in a .bin
MOVERS = (
    "Input Split Reshape Permute Slice Crop Concat Flatten Padding PixelShuffle ShuffleChannel Reorg "
    "Squeeze ExpandDims MemoryData Noop"
)
CHUNK_BYTES, SEARCHED_CHUNKS = 2**20, 16
SWITCHES = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
)


def import_ncnn() -> Any:
    """Return the library. Raises ImportError if it is absent. OpenMP settings of the user are kept."""
    with environment(QUIET):
        return import_module("ncnn")


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set unset environment variables during the block, so that processes started later do not inherit them."""
    added = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def load_net(param: Path, weights: Path, lightmode: bool, request: SessionRequest | None = None) -> Any:
    """Return a net with the request's options, or plain in float32 on one thread. Raises Rejected if ncnn rejects the
    files.

    Without `lightmode` ncnn keeps every blob until the extractor is freed.
    """
    ncnn = import_ncnn()
    custom = read_layers(param)
    _reject_unknown_layers(ncnn, [row for row in read_param(param) if not custom or row.name not in custom.layers])
    if not weights.is_file():
        raise Rejected(f"the weights {weights.name} are not in the folder of {param.name}")
    net = ncnn.Net()
    _set_options(ncnn, net.opt, request or SessionRequest(model=str(param), options={"storage": "fp32"}), weights)
    net.opt.lightmode = lightmode
    if custom:
        register_layers(ncnn, net, custom)
    if net.load_param(str(param)) != 0:
        raise Rejected(f"ncnn cannot read {param.name}")
    if net.load_model(str(weights)) != 0:
        raise Rejected(f"ncnn cannot read the weights in {weights.name}")
    return net


def _set_options(ncnn: Any, options: Any, request: SessionRequest, weights: Path) -> None:
    """Set the options. ncnn's half precision is on by default, even for weights in float32."""
    requested = request.options
    storage = requested.get("storage", "auto")
    if storage == "auto":
        storage = "fp16" if has_half_weights(weights) else "fp32"
    for name in SWITCHES:
        setattr(options, name, storage in name)
    options.num_threads = request.threads
    options.use_vulkan_compute = requested.get("vulkan", "off") == "on" and ncnn.get_gpu_count() > 0
    options.use_winograd_convolution = requested.get("winograd", "on") == "on"


def _reject_unknown_layers(ncnn: Any, rows: Sequence[ParamRow]) -> None:
    unknown = find_unknown_layers(ncnn, rows)
    if unknown:
        raise Rejected(f"this build of ncnn has no layer {', '.join(unknown)}")


def find_unknown_layers(ncnn: Any, rows: Sequence[ParamRow]) -> list[str]:
    """Return the layer types that this build of ncnn does not support; builds omit some types that have a number."""
    return [op for op in dict.fromkeys(row.op for row in rows) if ncnn.create_layer(op) is None]


def has_half_weights(weights: Path) -> bool:
    """Return whether the tag of half precision is near the file's start; as a float32 it is 3e-38, which no weight
    is.

    The file is read, not mapped, so that it does not count as memory of the model.
    """
    with weights.open("rb") as file:
        for _ in range(SEARCHED_CHUNKS):
            chunk = file.read(CHUNK_BYTES)
            if bool((np.frombuffer(chunk, np.uint32, len(chunk) // 4) == HALF_TAG).any()):
                return True
    return False


def _find_notes(net: Any, request: SessionRequest) -> tuple[str, ...]:
    """Return notes about options that ncnn silently ignores."""
    notes = []
    if request.options.get("vulkan", "off") == "on" and not net.opt.use_vulkan_compute:
        notes.append("Vulkan was requested, but no Vulkan device was found; the CPU ran everything")
    if not net.opt.use_vulkan_compute:
        notes += [note_of_half(net, half) for half in ("fp16", "bf16") if getattr(net.opt, f"use_{half}_storage")]
    return tuple(note for note in notes if note)


def note_of_half(net: Any, half: str) -> str:
    """Return a note on the layers that support this type, without data movement layers, which always report support."""
    computing = [layer for layer in net.layers() if layer.type not in MOVERS.split()]
    able = sum(bool(getattr(layer, f"support_{half}_storage")) for layer in computing)
    if not able:
        return f"ncnn has no {half} activations on this CPU: it computes this model in float32"
    if able == len(computing):
        return ""
    return (
        f"{half} activations: {able} of {len(computing)} computing layers support them, the others compute in float32"
    )


class NcnnSession:
    """A loaded model with its inputs bound; see `contract.Session`.

    ncnn keeps the results of a run in its extractor, so each run creates a new one, as usual with ncnn.
    """

    signature: Signature
    notes: Sequence[str]

    def __init__(self, request: SessionRequest) -> None:
        param = Path(request.model)
        rows = read_param(param)
        self._net = load_net(param, param.with_suffix(".bin"), lightmode=True, request=request)
        self._bound: list[tuple[str, Any]] = []
        self._results: list[tuple[int, Any]] = []
        self._outputs = find_output_blobs(rows)
        self.notes = _find_notes(self._net, request)
        inputs = make_input_specs(rows, request.shapes)
        self.signature = Signature(inputs=inputs, outputs=self._output_specs(inputs, rows))

    def _output_specs(self, inputs: Sequence[TensorSpec], rows: Sequence[ParamRow]) -> tuple[TensorSpec, ...]:
        """Return the outputs from the file's shape hints; without hints, or for other shapes, from a run on zeros."""
        makers = {top: row for row in rows for top in row.tops}
        shapes = [read_hinted_shape(makers[name], name) for name in self._outputs]
        if None in shapes or any(read_input_shape(makers[spec.name]) != spec.shape for spec in inputs):
            self._bound = [(spec.name, to_mat(np.zeros(_fix_shape(spec.shape), spec.dtype))) for spec in inputs]
            self.run()
            shapes = [array.shape for array in self._read_results()]
            self._bound, self._results = [], []
        return tuple(
            TensorSpec(name=name, dtype="float32", shape=tuple(shape or ()))
            for name, shape in zip(self._outputs, shapes, strict=True)
        )

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Copy the inputs into ncnn's own memory."""
        check_feeds(self.signature, feeds)
        self._bound = [(name, to_mat(array)) for name, array in feeds.items()]

    def run(self) -> None:
        extractor = self._net.create_extractor()
        for name, mat in self._bound:
            extractor.input(name, mat)
        self._results = [extractor.extract(name) for name in self._outputs]
        if any(code for code, _ in self._results):
            raise Rejected(failures[-1] if failures else "ncnn fails while running the model, often for lack of memory")

    def fetch(self) -> dict[str, Array]:
        arrays = [array.copy() for array in self._read_results()]
        return {
            spec.name: array.reshape(_fix_shape(spec.shape))
            for spec, array in zip(self.signature.outputs, arrays, strict=True)
        }

    def _read_results(self) -> list[Array]:
        return [mat.numpy() for _, mat in self._results]

    def close(self) -> None:
        """Free the results before the net, whose allocator has their memory."""
        self._results, self._bound = [], []
        self._net = None


def make_input_specs(rows: Sequence[ParamRow], shapes: Mapping[str, Sequence[int]]) -> tuple[TensorSpec, ...]:
    """Return the inputs with the shapes of the request or of the file. Raises Rejected if neither has one."""
    indices = find_index_inputs(rows)
    specs = []
    for row in rows:
        if row.op == "Input":
            name = row.tops[0]
            shape = tuple(shapes.get(name, ())) or read_input_shape(row)
            if shape is None:
                raise Rejected(f"the file does not contain the shape of input '{name}'; give it with --shape")
            dtype = "int32" if name in indices else "float32"
            specs.append(TensorSpec(name=name, dtype=dtype, shape=shape))
    unknown = shapes.keys() - {spec.name for spec in specs}
    if unknown:
        raise Mismatch(f"the model has no input '{min(unknown)}'; its inputs are {[spec.name for spec in specs]}")
    return tuple(specs)


def _fix_shape(shape: Sequence[int | str]) -> tuple[int, ...]:
    return tuple(size for size in shape if isinstance(size, int))


def to_mat(array: Array) -> Any:
    """Return ncnn's own copy of an array of one to four axes."""
    rows = np.ascontiguousarray(array)  # a Mat does not own its data, which must live until it is copied
    return import_ncnn().Mat(rows).clone()
