"""A session of OpenVINO; runs in the worker."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from edgewright.runtimes.contract import Rejected, check_feeds
from edgewright.runtimes.openvino.library import get_error_text, import_library, make_core
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature, TensorSpec

# OpenVINO's type names by NumPy's. Types that NumPy lacks keep OpenVINO's name, and no array fits them.
DTYPES = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "boolean": "bool",
    "bf16": "bfloat16",
}
ON_CPU = ("CPU", "AUTO")
MOST_DIGITS = 4  # of a number of streams: more is a mistake


def open_session(request: SessionRequest) -> "OpenvinoSession":
    """Load the model of the request."""
    core = make_core()
    return OpenvinoSession(core, read_model(core, request), request)


class OpenvinoSession:
    """A loaded model with its inputs bound; see `contract.Session`."""

    def __init__(self, core: Any, model: Any, request: SessionRequest, *, count: bool = False) -> None:
        """Compile the model for its device; with `count` OpenVINO measures the time of each operator."""
        self.device, notes = choose_device(core, request.options)
        self.compiled = _compile_for(core, model, self.device, configure(request, self.device, count=count))
        self.request = self.compiled.create_infer_request()
        self.signature = read_signature(self.compiled)
        self.notes: Sequence[str] = (*notes, *compare_settings(self.compiled, request))
        self._bound: list[Any] = []
        # Shared outputs avoid copies, so that only the inference is timed.
        self.run: Callable[[], object] = partial(self.request.infer, share_outputs=True)

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Copy the inputs into tensors of the request. Raises Mismatch if they do not fit."""
        import numpy as np

        check_feeds(self.signature, feeds)
        tensor = import_library().Tensor
        arrays = [np.array(feeds[spec.name], order="C") for spec in self.signature.inputs]
        # The request reads the tensors in place, and they do not own their memory.
        self._bound = [(array, tensor(array, shared_memory=True)) for array in arrays]
        for port, (_, bound) in zip(self.compiled.inputs, self._bound, strict=True):
            self.request.set_tensor(port, bound)

    def fetch(self) -> dict[str, Array]:
        """Return the outputs of the last run, as copies."""
        ports = zip(self.signature.outputs, self.compiled.outputs, strict=True)
        return {spec.name: self.request.get_tensor(port).data.copy() for spec, port in ports}

    def close(self) -> None:
        """Free the model; the session cannot be used afterwards."""
        del self.run, self.request, self.compiled
        self._bound = []


def read_model(core: Any, request: SessionRequest) -> Any:
    """Return OpenVINO's graph with the dynamic sizes of the inputs set. Raises Rejected with OpenVINO's message."""
    try:
        model = core.read_model(request.model)
        shapes = {_port_name(port): port for port in model.inputs if port.partial_shape.is_dynamic}
        fixed = {name: list(request.shapes[name]) for name in shapes if name in request.shapes}
        if fixed:
            model.reshape(fixed)
    except Exception as error:  # the library raises RuntimeError, pybind its own classes
        raise Rejected(get_error_text(error)) from error
    return model


def _compile_for(core: Any, model: Any, device: str, config: Mapping[str, object]) -> Any:
    """Return OpenVINO's `CompiledModel`. Raises Rejected with OpenVINO's message."""
    try:
        return core.compile_model(model, device, dict(config))
    except Exception as error:
        raise Rejected(get_error_text(error)) from error


def choose_device(core: Any, options: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the device to compile for, and a note if it is not the requested one."""
    wanted = options.get("device", "CPU")
    if wanted in ON_CPU:  # to list the devices, OpenVINO loads the plug-ins of all of them
        return wanted, ()
    present = list(core.available_devices)
    if any(name.split(".")[0] == wanted for name in present):
        return wanted, ()
    return "CPU", ((f"{wanted} was requested, but OpenVINO finds no such device; the CPU ran everything"),)


def configure(request: SessionRequest, device: str, *, count: bool) -> dict[str, object]:
    """Return OpenVINO's properties for the request.

    By default the CPU plug-in computes in bfloat16 if the processor can, so the precision is always set.
    """
    requested = request.options
    config: dict[str, object] = {
        "PERFORMANCE_HINT": requested.get("performance-hint", "latency").upper(),
        "PERF_COUNT": count,
    }
    if device != "NPU" or "inference-precision" in requested:  # an NPU has no float32
        config["INFERENCE_PRECISION_HINT"] = requested.get("inference-precision", "f32")
    if device in ON_CPU:
        config["INFERENCE_NUM_THREADS"] = request.threads
    if (streams := read_streams(requested)) is not None and device != "AUTO":
        config["NUM_STREAMS"] = streams
    return config


def read_streams(options: Mapping[str, str]) -> int | None:
    """Return the number of streams, 1 by default; None leaves it to the performance hint."""
    text = options.get("streams", "1")
    if text == "auto":
        return None
    if not (text.isdecimal() and len(text) <= MOST_DIGITS and int(text) >= 1):
        raise Rejected(f"streams={text} must be an integer of at least 1, or auto")
    return int(text)


def compare_settings(compiled: Any, request: SessionRequest) -> tuple[str, ...]:
    """Return the silent changes of the request: other precision, fewer threads, AUTO's choice of device."""
    notes = []
    wanted = request.options.get("inference-precision", "f32")
    given = _setting(compiled, "INFERENCE_PRECISION_HINT")
    if given is not None and (name := given.get_type_name()) not in (wanted, "dynamic"):
        notes.append(f"{wanted} was requested, but the device computes in {name}")
    threads = _setting(compiled, "INFERENCE_NUM_THREADS")
    if threads is not None and threads < request.threads:
        notes.append(f"{request.threads} threads were requested, but OpenVINO uses {threads}")
    if request.options.get("device") == "AUTO":
        notes.append(f"AUTO chose {', '.join(list_execution_devices(compiled))}")
    return tuple(notes)


def _setting(compiled: Any, name: str) -> Any:
    """Return a property of the compiled model; None if its device does not have it."""
    return compiled.get_property(name) if name in compiled.get_property("SUPPORTED_PROPERTIES") else None


def list_execution_devices(compiled: Any) -> list[str]:
    """Return the devices that run the model, such as `CPU` or `GPU.0`; AUTO puts the one that it will leave in
    brackets."""
    return [str(name).strip("()") for name in compiled.get_property("EXECUTION_DEVICES")]


def read_signature(model: Any) -> Signature:
    return Signature(
        inputs=tuple(_describe(port, _port_name(port)) for port in model.inputs),
        outputs=tuple(_describe(port, _port_name(port)) for port in model.outputs),
    )


def _port_name(port: Any) -> str:
    """Return the tensor's name; of several (a removed no-op leaves both), the alphabetically first."""
    names = sorted(port.get_names())
    return str(names[0]) if names else str(port.node.get_friendly_name())


def _describe(port: Any, name: str) -> TensorSpec:
    kind = port.element_type.get_type_name()
    if kind == "string":
        raise Rejected(f"'{name}' is a string tensor, which OpenVINO supports only through tokenizer extensions")
    sizes = tuple(size.get_length() if size.is_static else "" for size in port.partial_shape)
    return TensorSpec(name=name, dtype=DTYPES.get(kind, kind), shape=sizes)
