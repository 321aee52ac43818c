"""A model in MNN's interpreter; runs in the worker."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.runtimes.contract import Mismatch, Rejected, check_feeds
from edgewright.runtimes.mnn.graph import CUSTOM, MnnFileUnreadable, MnnModel, read_mnn_model
from edgewright.runtimes.mnn.library import load_library
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature, TensorSpec

BACKENDS = {"CPU": "CPU", "OpenCL": "OPENCL", "Vulkan": "VULKAN"}
# MNNForwardType, which the session reports; 13 is the CPU with AVX2, AVX-512 or ARMv8.2.
FORWARD_TYPES = {0: "CPU", 3: "OpenCL", 7: "Vulkan", 13: "CPU"}
INFO_BACKENDS, INFO_RESIZED = 2, 3
DEBUG, RELEASE = 0, 1
NCHW, NC4HW4 = 1, 2
DTYPES = {
    "Halide_Type_Float": "float32",
    "Halide_Type_Int": "int32",
    "Halide_Type_Uint8": "uint8",
    "Halide_Type_Int64": "int64",
    "Halide_Type_Double": "float64",
}
CLOSED = "the session is closed"


class MnnSession:
    """A loaded model; see `contract.Session`.

    MNN overwrites its inputs with activations, so that a second `runSession` would read garbage. Each `run` therefore
    sets the inputs again, as MNN's module interface does too, before it calls `runSession` and checks its result.

    `mode` DEBUG lets `run_with` call back at each operator; RELEASE is for measurements.
    """

    signature: Signature
    notes: Sequence[str]

    def __init__(self, request: SessionRequest, mode: int = RELEASE) -> None:
        self._library = load_library()
        self.net = _read_file(Path(request.model))
        self._interpreter = _open_interpreter(self._library, request.model, mode)
        self._session = _create_session(self._interpreter, request)
        self._inputs: dict[str, Any] = self._interpreter.getSessionInputAll(self._session)
        if request.shapes:
            self._resize(request.shapes)
        _check_sizes(self._interpreter, self._session)
        self._outputs: dict[str, Any] = self._interpreter.getSessionOutputAll(self._session)
        self.signature = self._read_signature()
        self.backend = FORWARD_TYPES.get(int(self._interpreter.getSessionInfo(self._session, INFO_BACKENDS)), "UNKNOWN")
        self.notes = backend_notes(find_requested_backend(request.options), self.backend)
        self._call: Callable[[Any], int] = self._interpreter.runSession
        self._copies: list[tuple[Callable[[Any], bool], Any]] = []

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Copy the inputs into tensors of MNN. Raises Mismatch if they do not fit. Unread inputs are ignored."""
        check_feeds(self.signature, feeds)
        hosts = {name: self._host(tensor, np.ascontiguousarray(feeds[name])) for name, tensor in self._inputs.items()}
        self._copies = [(tensor.copyFrom, hosts[name]) for name, tensor in self._inputs.items()]
        if not all(copy(host) for copy, host in self._copies):
            raise Rejected("MNN does not accept the inputs")

    def run(self) -> None:
        for copy, host in self._copies:
            copy(host)
        if code := self._call(self._session):
            raise Rejected(f"MNN's runSession fails with error {code}")

    def run_with(self, begin: Callable[..., bool], end: Callable[..., bool]) -> None:
        """Run one inference that calls `begin` and `end` around each operator; requires the DEBUG mode."""
        for copy, host in self._copies:
            copy(host)
        if code := self._interpreter.runSessionWithCallBackInfo(self._session, begin, end):
            raise Rejected(f"MNN's runSessionWithCallBackInfo fails with error {code}")

    def fetch(self) -> dict[str, Array]:
        """Return the outputs of the last run, as copies in the order of axes that the signature reports."""
        return {spec.name: self._fetch(self._outputs[spec.name]) for spec in self.signature.outputs}

    def close(self) -> None:
        self._call = _call_closed
        self._inputs, self._outputs, self._copies = {}, {}, []
        self._session = self._interpreter = None

    def _fetch(self, tensor: Any) -> Array:
        host = self._host(tensor, np.zeros(tensor.getShape(), _dtype_of(self._library, tensor)))
        if not tensor.copyToHostTensor(host):
            raise Rejected("MNN does not return the output")
        return np.array(host.getNumpyData())

    def _host(self, tensor: Any, array: Array) -> Any:
        """Return a tensor outside of the session; channels packed by four (NC4HW4) are unpacked to
        NCHW.
        """
        kind = tensor.getDimensionType()
        layout = NCHW if kind == NC4HW4 else kind
        return self._library.Tensor(tuple(array.shape), tensor.getDataType(), array, layout)

    def _resize(self, shapes: Mapping[str, Sequence[int]]) -> None:
        for name, shape in shapes.items():
            if name not in self._inputs:
                raise Mismatch(f"the model has no input '{name}'; its inputs are {sorted(self._inputs)}")
            self._interpreter.resizeTensor(self._inputs[name], tuple(shape))
        self._interpreter.resizeSession(self._session)

    def _read_signature(self) -> Signature:
        """Return the file's inputs and outputs in its order, with the session's types and sizes."""
        declared = [self._declare(name, shape, dtype) for name, shape, dtype in self.net.inputs]
        names = [name for name in self.net.outputs if name in self._outputs] or list(self._outputs)
        return Signature(inputs=tuple(declared), outputs=tuple(self._describe(name, self._outputs) for name in names))

    def _declare(self, name: str, shape: Sequence[int], dtype: str) -> TensorSpec:
        if name in self._inputs:
            return self._describe(name, self._inputs)
        return TensorSpec(name=name, dtype=dtype, shape=tuple(size if size >= 0 else "" for size in shape))

    def _describe(self, name: str, tensors: Mapping[str, Any]) -> TensorSpec:
        tensor = tensors[name]
        dtype = _dtype_of(self._library, tensor)
        if not dtype:
            raise Rejected(f"'{name}' has a type that MNN's Python package does not support")
        return TensorSpec(name=name, dtype=dtype, shape=tuple(size if size >= 0 else "" for size in tensor.getShape()))


def _read_file(path: Path) -> MnnModel:
    """Return the file's content. Raises Rejected for operators that MNN's interpreter cannot run or would crash on."""
    try:
        net = read_mnn_model(path)
    except (MnnFileUnreadable, OSError) as error:
        raise Rejected(str(error)) from error
    if net.subgraphs:
        raise Rejected("the model has branches or loops, which MNN's interpreter does not run")
    if custom := [one.name for one in net.operators if one.kind in CUSTOM]:
        raise Rejected(f"the model needs additional code for its custom operators {', '.join(custom[:5])}")
    return net


def _open_interpreter(library: Any, path: str, mode: int) -> Any:
    try:
        interpreter = library.Interpreter(path)
    except Exception as error:  # the library raises the bare class
        raise Rejected("MNN cannot read the file; the log has its message") from error
    interpreter.setSessionMode(mode)
    return interpreter


def _create_session(interpreter: Any, request: SessionRequest) -> Any:
    try:
        return interpreter.createSession(_session_config(request))
    except Exception as error:  # the library raises the bare class
        raise Rejected(
            "MNN cannot plan the model's memory, for example because sizes depend on values; the log has its message"
        ) from error


def _check_sizes(interpreter: Any, session: Any) -> None:
    """Raise Rejected for unknown sizes: MNN creates a session of such a model, but can neither feed nor run it."""
    if interpreter.getSessionInfo(session, INFO_RESIZED):
        raise Rejected("MNN cannot infer the sizes of the model's tensors; the log names the first of them")


def _session_config(request: SessionRequest) -> dict[str, Any]:
    """Return MNN's `ScheduleConfig`. On a GPU its number of threads selects the tuning mode, and is not set."""
    backend = find_requested_backend(request.options)
    config: dict[str, Any] = {
        "backend": BACKENDS[backend],
        "precision": request.options.get("precision", "high"),
        "memory": request.options.get("memory", "normal"),
        "power": request.options.get("power", "normal"),
    }
    return {**config, "numThread": request.threads} if backend == "CPU" else config


def find_requested_backend(options: Mapping[str, str]) -> str:
    return options.get("backend", "CPU")


def backend_notes(requested: str, given: str) -> tuple[str, ...]:
    """Return a note if the session's report shows that MNN silently fell back to the CPU."""
    if requested == given:
        return ()
    return (
        (
            f"backend {requested} was requested, but it is not in this build of MNN or finds no device; "
            f"{given} ran the model"
        ),
    )


def _dtype_of(library: Any, tensor: Any) -> str:
    """Return NumPy's name of the tensor's type; empty if MNN's Python package has no name for it."""
    kind = tensor.getDataType()
    return next((dtype for name, dtype in DTYPES.items() if kind is getattr(library, name)), "")


def _call_closed(session: Any) -> int:
    raise RuntimeError(CLOSED)
