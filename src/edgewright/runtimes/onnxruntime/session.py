"""Sessions of ONNX Runtime; runs in the worker."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edgewright.kernels.custom.place import HINT, find_operators_path
from edgewright.runtimes.contract import Rejected, check_feeds
from edgewright.runtimes.onnxruntime.mapped import prepare_mapped
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature, TensorSpec

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(string)": "str",
    "tensor(bool)": "bool",
}
LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disable": "ORT_DISABLE_ALL",
}
ERRORS_ONLY = 3
UNKNOWN = "is not a registered function/op"  # part of ONNX Runtime's message
CUSTOM_HINT = "edgewright compile MODEL --custom-ops FOLDER adds an operator of your own: docs/custom-operators.md"
MOST_DIGITS = 4  # of a number of threads: more is a mistake


def version() -> str:
    """Return the installed version. Raises ImportError if there is none."""
    import onnxruntime

    return str(onnxruntime.__version__)


def make_session_options(request: SessionRequest) -> Any:
    """Return ONNX Runtime's `SessionOptions` for the request."""
    import onnxruntime

    requested = request.options
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = request.threads
    options.inter_op_num_threads = _read_count(requested, "inter-op-threads")
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, LEVELS[requested.get("optimization", "all")]
    )
    if requested.get("execution") == "parallel":
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.enable_cpu_mem_arena = requested.get("arena", "on") == "on"
    spinning = "1" if requested.get("spinning", "on") == "on" else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    return options


def _read_count(options: Mapping[str, str], name: str) -> int:
    """Return an option that is a count, 1 by default. Raises Rejected for an invalid number."""
    text = options.get(name, "1")
    if not (text.isdecimal() and len(text) <= MOST_DIGITS and int(text) >= 1):
        raise Rejected(f"{name}={text} must be an integer of at least 1")
    return int(text)


def load_session(request: SessionRequest, options: Any, content: bytes | None = None) -> Any:
    """Return an `InferenceSession` of the file, or of its `content`. Raises Rejected with ONNX Runtime's message if it
    rejects.
    """
    import onnxruntime

    _register_operators(options, request)
    # An absent provider is omitted here and reported in the session's notes: ONNX Runtime would ignore it anyway.
    wanted = dict.fromkeys((choose_provider(request.options), "CPUExecutionProvider"))
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(content or request.model, options, providers=providers)
    except Exception as error:  # the library raises a dozen classes of its own
        why = _first_line(error)
        raise Rejected(why, CUSTOM_HINT if UNKNOWN in why else "") from error


def _register_operators(options: Any, request: SessionRequest) -> None:
    """Register custom operators. Raises Rejected if their library is missing."""
    if (path := find_operators_path(Path(request.model))) is None:
        return
    from edgewright.kernels.custom.native import register_operators

    try:
        register_operators(options, path)
    except ValueError as error:
        raise Rejected(str(error), HINT) from error


def choose_provider(options: Mapping[str, str]) -> str:
    """Return the requested execution provider by ONNX Runtime's name."""
    requested = options.get("provider", "CPU")
    names = {
        "cpu": "CPU",
        "xnnpack": "Xnnpack",
        "cuda": "CUDA",
        "coreml": "CoreML",
        "nnapi": "Nnapi",
        "qnn": "QNN",
    }
    short = requested.removesuffix("ExecutionProvider")
    return names.get(short.lower(), short) + "ExecutionProvider"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class OnnxSession:
    """A loaded model with its inputs bound; see `contract.Session`."""

    def __init__(self, session: Any, request: SessionRequest) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._feeds: dict[str, Any] = {}
        self._outputs: Sequence[Array] = ()
        self.signature = read_signature(session, request.shapes)
        self.notes: Sequence[str] = _provider_notes(session, request.options)
        # Text cannot be bound, so a model with text inputs gets them in each run.
        self._takes_text = any(spec.dtype == "str" for spec in self.signature.inputs)
        self.run: Callable[[], None] = self._run_fed if self._takes_text else self._run_bound()

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """See `contract.Session`. Raises Rejected for a type that ONNX Runtime cannot read from a NumPy array."""
        check_feeds(self.signature, feeds)
        if self._takes_text:
            self._feeds = dict(feeds)
            return
        # The values do not own their memory: they and their arrays must live as long as they are bound.
        self._feeds = {name: _as_ort_value(name, array) for name, array in feeds.items()}
        self._binding.clear_binding_inputs()
        for name, value in self._feeds.items():
            self._binding.bind_ortvalue_input(name, value)
        for spec in self.signature.outputs:
            self._binding.bind_output(spec.name, "cpu")

    def _run_bound(self) -> Callable[[], None]:
        """Return the library's own call without wrappers, since it is timed."""
        return partial(self._session.run_with_iobinding, self._binding)

    def _run_fed(self) -> None:
        self._outputs = self._session.run(None, self._feeds)

    def fetch(self) -> dict[str, Array]:
        outputs = self._outputs if self._takes_text else self._binding.copy_outputs_to_cpu()
        return {spec.name: _as_plain(array) for spec, array in zip(self.signature.outputs, outputs, strict=True)}

    def close(self) -> None:
        self._feeds = {}
        del self.run, self._binding, self._session


def _as_ort_value(name: str, array: Array) -> Any:
    """Return the array in ONNX Runtime's form, in row order; a scalar stays one."""
    import numpy as np
    import onnxruntime

    try:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(array, order="C"))
    except RuntimeError as error:
        raise Rejected(f"input '{name}' of type {array.dtype.name}: {_first_line(error)}") from error


def _as_plain(array: Array) -> Array:
    """Return an array that can be stored: text comes as Python objects."""
    return array.astype(str) if array.dtype.kind == "O" else array


def open_session(request: SessionRequest) -> OnnxSession:
    """Load the model of the request."""
    options = make_session_options(request)
    if request.options.get("weights") != "mapped":
        return OnnxSession(load_session(request, options), request)
    path, level = prepare_mapped(request, lambda writing: load_session(request, writing), make_session_options(request))
    options.graph_optimization_level = level
    options.add_session_config_entry("session.disable_prepacking", "1")
    own = msgspec.structs.replace(request, model=path)
    return OnnxSession(load_session(own, options), request)


def read_signature(session: Any, shapes: Mapping[str, Sequence[int]]) -> Signature:
    return Signature(
        inputs=tuple(_describe(arg, shapes.get(arg.name)) for arg in session.get_inputs()),
        outputs=tuple(_describe(arg, None) for arg in session.get_outputs()),
    )


def _describe(arg: Any, shape: Sequence[int] | None) -> TensorSpec:
    if not arg.type.startswith("tensor("):
        raise Rejected(f"'{arg.name}' is a {arg.type}; only tensors are supported")
    dtype = DTYPES.get(arg.type, arg.type.removeprefix("tensor(").removesuffix(")"))
    sizes: Sequence[int | str] = shape or [size if isinstance(size, int) else size or "" for size in arg.shape]
    return TensorSpec(name=arg.name, dtype=dtype, shape=tuple(sizes))


def _provider_notes(session: Any, options: Mapping[str, str]) -> tuple[str, ...]:
    """Return notes on absent providers, which ONNX Runtime only omits from the list that it returns."""
    wanted = choose_provider(options)
    given = session.get_providers()
    if wanted in given:
        return ()
    return ((f"{wanted} was requested, but it is not in this build of ONNX Runtime; {given[0]} ran everything"),)
