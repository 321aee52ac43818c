"""A model in LiteRT's interpreter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.formats.tflite.reader import invert_names, name_tensors
from edgewright.runtimes.contract import Mismatch, Rejected, check_feeds
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import Quantization, Signature, TensorSpec

NOTHING_DELEGATED_NOTE = (
    "XNNPACK was requested but took none of the model's operators: the built-in kernels run them all"
)
DELEGATE_NODE = "DELEGATE"


class LiteRtSession:
    """A loaded model; see `contract.Session`. `run` is the interpreter's own `invoke`."""

    signature: Signature
    notes: Sequence[str]
    run: Callable[[], None]

    def __init__(self, request: SessionRequest) -> None:
        self._interpreter = open_interpreter(request)
        self._inputs, self._outputs = map_tensor_details(self._interpreter)
        self.signature = Signature(
            inputs=tuple(_spec(name, detail) for name, detail in self._inputs.items()),
            outputs=tuple(_spec(name, detail) for name, detail in self._outputs.items()),
        )
        self.notes = _notes(self._interpreter, request)
        self.run = self._interpreter.invoke

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Copy the inputs into the interpreter. Raises Mismatch if they do not fit."""
        check_feeds(self.signature, feeds)
        for name, detail in self._inputs.items():
            self._interpreter.set_tensor(detail["index"], _plain(feeds[name]))

    def fetch(self) -> dict[str, NDArray[Any]]:
        """Return the outputs of the last run, as copies."""
        return {name: _decoded(self._interpreter.get_tensor(d["index"])) for name, d in self._outputs.items()}

    def close(self) -> None:
        """Free the interpreter; the session cannot be used afterwards."""
        self.run = _closed
        self._interpreter = None


def open_interpreter(request: SessionRequest) -> Any:
    """Return an interpreter with its tensors allocated. Raises Rejected with LiteRT's reason."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    delegate = request.options.get("delegate", "xnnpack")
    if delegate not in ("xnnpack", "none"):
        raise Rejected(f"only browsers have the delegate {delegate}")
    plain = delegate == "none"
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else OpResolverType.AUTO
    try:
        interpreter = Interpreter(
            model_path=request.model, num_threads=request.threads, experimental_op_resolver_type=resolver
        )
        _resize(interpreter, request)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, TypeError) as error:
        raise Rejected(str(error)) from error
    return interpreter


def map_tensor_details(interpreter: Any) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the details of inputs and outputs by their names in `formats.tflite.read_signature`."""
    names_in, names_out = _signature_names(interpreter)
    return (
        _by_name(interpreter.get_input_details(), names_in),
        _by_name(interpreter.get_output_details(), names_out),
    )


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in LiteRT's form: in row order, text as bytes."""
    return (
        np.char.encode(array.astype(str), "utf-8")
        if array.dtype.kind in "UO"
        else np.ascontiguousarray(array).reshape(array.shape)
    )


def _decoded(array: NDArray[Any]) -> NDArray[Any]:
    """Return text as NumPy strings; LiteRT returns objects that hold bytes."""
    return np.char.decode(array.astype(np.bytes_), "utf-8", "replace") if array.dtype.kind == "O" else array


def _resize(interpreter: Any, request: SessionRequest) -> None:
    inputs, _ = map_tensor_details(interpreter)
    for name, shape in request.shapes.items():
        if name not in inputs:
            raise Mismatch(f"the model has no input '{name}'; its inputs are {sorted(inputs)}")
        interpreter.resize_tensor_input(inputs[name]["index"], shape, strict=True)


def _signature_names(interpreter: Any) -> tuple[dict[int, str], dict[int, str]]:
    definitions = interpreter._get_full_signature_list()
    if len(definitions) != 1:
        return {}, {}
    ((key, definition),) = definitions.items()
    if interpreter._interpreter.GetSubgraphIndexFromSignature(key) != 0:
        return {}, {}
    return invert_names(list(definition["inputs"].items())), invert_names(list(definition["outputs"].items()))


def _by_name(details: Sequence[dict[str, Any]], signature: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    own = {int(detail["index"]): detail["name"] for detail in details}
    names = name_tensors([int(detail["index"]) for detail in details], own, signature)
    return dict(zip(names, details, strict=True))


def _spec(name: str, detail: dict[str, Any]) -> TensorSpec:
    dtype = np.dtype(detail["dtype"])
    return TensorSpec(
        name=name,
        dtype="str" if dtype.kind in "SUO" else dtype.name,
        shape=tuple(int(size) for size in detail["shape"]),
        quantization=_quantization(detail["quantization_parameters"]),
    )


def _quantization(parameters: Mapping[str, Any]) -> Quantization | None:
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    if len(scales) != 1:
        return None
    return Quantization(scale=float(scales[0]), zero_point=int(zero_points[0]) if len(zero_points) else 0)


def _notes(interpreter: Any, request: SessionRequest) -> tuple[str, ...]:
    if request.options.get("delegate", "xnnpack") == "none" or is_delegated(interpreter):
        return ()
    return (NOTHING_DELEGATED_NOTE,)


def is_delegated(interpreter: Any) -> bool:
    """Return whether a delegate runs any operator; its nodes are after the file's own."""
    nodes = interpreter._interpreter
    return any(nodes.NodeName(i) == DELEGATE_NODE for i in range(nodes.NumNodes() - 1, -1, -1))


def _closed() -> None:
    raise RuntimeError("the session is closed")
