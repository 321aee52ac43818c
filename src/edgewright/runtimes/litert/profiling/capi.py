"""LiteRT's C API through ctypes, the only source of the times of operators inside the XNNPACK delegate.

Headers: google-ai-edge/LiteRT, `litert/c/litert_compiled_model.h`, `litert_model.h`, `litert_options.h`,
`litert_opaque_options.h`, `litert_tensor_buffer.h`, `litert_profiler.h` and `litert_profiler_event.h`, as of
ai-edge-litert 2.3. They change between versions, so every symbol is looked up before anything is called, and
this module is used only in a process that may crash (`capture.py`).
"""

import ctypes
import ctypes.util
import sys
from collections.abc import Mapping
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# litert_common.h: LiteRtHwAccelerators; litert_tensor_buffer.h: LiteRtTensorBufferLockMode.
ACCELERATOR_CPU = 1
LOCK_READ, LOCK_WRITE = 0, 1
# Identifiers of the opaque options, whose payloads are TOML text (litert_runtime_options.h, litert_cpu_options.h).
RUNTIME_OPTIONS, CPU_OPTIONS = b"runtime_options_string", b"xnnpack"
KERNELS = {"xnnpack": "xnnpack", "none": "builtin"}

Handle = c_void_p
_OUT = POINTER(c_void_p)


class CApiUnavailable(Exception):
    """The C API cannot be used here; the text says why."""


class Layout(ctypes.Structure):
    """LiteRtLayout: `bits` has the rank in its low seven bits, and above them whether there are strides."""

    _fields_ = (("bits", c_uint32), ("dimensions", c_int32 * 8), ("strides", c_uint32 * 8))


class RankedTensorType(ctypes.Structure):
    """LiteRtRankedTensorType."""

    _fields_ = (("element", c_int32), ("layout", Layout))


class ProfiledEvent(ctypes.Structure):
    """ProfiledEventData, with the three memory fields of the wheel's build.

    `kind` is 1 for a section of the runtime itself, 2 for an operator, 4 and 8 for an operator inside a delegate,
    more for telemetry. `metadata1` is the operator's index (in the subgraph, or in the delegate's partition),
    `metadata2` the subgraph's.
    """

    _fields_ = (
        ("tag", c_char_p),
        ("kind", c_int32),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("memory_before", c_int64 * 3),
        ("memory_after", c_int64 * 3),
        ("metadata1", c_uint64),
        ("metadata2", c_uint64),
        ("source", c_int32),
    )


_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "LiteRtCreateEnvironment": (c_int, c_void_p, _OUT),
    "LiteRtCreateModelFromFile": (Handle, c_char_p, _OUT),
    "LiteRtCreateOptions": (_OUT,),
    "LiteRtSetOptionsHardwareAccelerators": (Handle, c_int),
    "LiteRtCreateOpaqueOptions": (c_char_p, c_void_p, c_void_p, _OUT),
    "LiteRtAddOpaqueOptions": (Handle, Handle),
    "LiteRtCreateCompiledModel": (Handle, Handle, Handle, _OUT),
    "LiteRtCompiledModelGetProfiler": (Handle, _OUT),
    "LiteRtCompiledModelResizeInputTensor": (Handle, c_size_t, c_size_t, POINTER(c_int), c_size_t),
    "LiteRtGetNumModelSignatures": (Handle, POINTER(c_size_t)),
    "LiteRtGetModelSignature": (Handle, c_size_t, _OUT),
    "LiteRtGetModelSubgraph": (Handle, c_size_t, _OUT),
    "LiteRtGetSignatureSubgraph": (Handle, _OUT),
    "LiteRtGetNumSignatureInputs": (Handle, POINTER(c_size_t)),
    "LiteRtGetNumSignatureOutputs": (Handle, POINTER(c_size_t)),
    "LiteRtGetSignatureInputTensorByIndex": (Handle, c_size_t, _OUT),
    "LiteRtGetSignatureOutputTensorByIndex": (Handle, c_size_t, _OUT),
    "LiteRtGetTensorIndex": (Handle, POINTER(c_uint32)),
    "LiteRtGetRankedTensorType": (Handle, POINTER(RankedTensorType)),
    "LiteRtGetCompiledModelInputTensorLayout": (Handle, c_size_t, c_size_t, POINTER(Layout)),
    "LiteRtGetCompiledModelOutputTensorLayouts": (Handle, c_size_t, c_size_t, POINTER(Layout), c_bool),
    "LiteRtGetCompiledModelInputBufferRequirements": (Handle, c_size_t, c_size_t, _OUT),
    "LiteRtGetCompiledModelOutputBufferRequirements": (Handle, c_size_t, c_size_t, _OUT),
    "LiteRtCreateManagedTensorBufferFromRequirements": (Handle, POINTER(RankedTensorType), Handle, _OUT),
    "LiteRtGetTensorBufferPackedSize": (Handle, POINTER(c_size_t)),
    "LiteRtLockTensorBuffer": (Handle, _OUT, c_int),
    "LiteRtUnlockTensorBuffer": (Handle,),
    "LiteRtRunCompiledModel": (Handle, c_size_t, c_size_t, _OUT, c_size_t, _OUT),
    "LiteRtResetProfiler": (Handle,),
    "LiteRtStartProfiler": (Handle,),
    "LiteRtStopProfiler": (Handle,),
    "LiteRtGetNumProfilerEvents": (Handle, POINTER(c_int)),
    "LiteRtGetProfilerEvents": (Handle, c_int, POINTER(ProfiledEvent)),
}


class LiteRtLibrary:
    """libLiteRt with the required symbols, as functions that raise CApiUnavailable on an error status."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise CApiUnavailable(str(error)) from error
        missing = [name for name in _SIGNATURES if not hasattr(self._library, name)]
        if missing:
            raise CApiUnavailable(f"{path.name} has no {', '.join(missing)}")
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, c_int
        self.run = self._library.LiteRtRunCompiledModel

    def call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self._library, name)(*arguments):
            raise CApiUnavailable(f"{name} returned status {status}")

    def get(self, name: str, *arguments: Any) -> c_void_p:
        """Call with an additional last argument for the returned handle."""
        handle = c_void_p()
        self.call(name, *arguments, byref(handle))
        return handle

    def get_locked(self, buffer: c_void_p, mode: int) -> c_void_p:
        """Return the address of a tensor buffer's bytes, valid until it is unlocked."""
        address = c_void_p()
        self.call("LiteRtLockTensorBuffer", buffer, byref(address), mode)
        return address

    def count(self, name: str, handle: c_void_p) -> int:
        number = c_size_t()
        self.call(name, handle, byref(number))
        return number.value


def _find_library() -> Path:
    """Return the library of the installed wheel. Raises CApiUnavailable if there is none."""
    spec = find_spec("ai_edge_litert")
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    path = Path(spec.origin or "").parent / f"libLiteRt.{suffix}" if spec else Path("libLiteRt")
    if not path.is_file():
        raise CApiUnavailable("the installed ai-edge-litert has no libLiteRt")
    return path


class CompiledModel:
    """A model with profiling enabled. Nothing is freed, since its process ends after it has reported its events."""

    def __init__(self, model: Path, *, threads: int, delegate: str, shapes: Mapping[int, tuple[int, ...]]) -> None:
        """Load the model with `shapes` by tensor index of the file. Raises CApiUnavailable if any call fails."""
        self._library = library = LiteRtLibrary(_find_library())
        self._environment = library.get("LiteRtCreateEnvironment", 0, None)
        self._model = library.get("LiteRtCreateModelFromFile", self._environment, str(model).encode())
        options = self._make_options(threads, delegate)
        self._compiled = library.get("LiteRtCreateCompiledModel", self._environment, self._model, options)
        self._profiler = library.get("LiteRtCompiledModelGetProfiler", self._compiled)
        if not self._profiler:
            raise CApiUnavailable("the library returns no profiler")
        self._at, self._signature = self._find_signature()
        inputs, outputs = self._list_tensors("Input"), self._list_tensors("Output")
        self._resize(inputs, shapes)
        self._inputs = self._make_buffers("Input", inputs)
        self._outputs = self._make_buffers("Output", outputs)
        self._arguments = self._pack_arguments()

    def _make_options(self, threads: int, delegate: str) -> c_void_p:
        library = self._library
        options = library.get("LiteRtCreateOptions")
        library.call("LiteRtSetOptionsHardwareAccelerators", options, ACCELERATOR_CPU)
        cpu = f'num_threads = {threads}\nkernel_mode = "{KERNELS[delegate]}"\n'
        for identifier, text in ((RUNTIME_OPTIONS, "enable_profiling = true\n"), (CPU_OPTIONS, cpu)):
            opaque = library.get("LiteRtCreateOpaqueOptions", identifier, *_owned_text(text))
            library.call("LiteRtAddOpaqueOptions", options, opaque)
        return options

    def _find_signature(self) -> tuple[int, c_void_p]:
        """Return the signature of the main subgraph; LiteRT creates one if the file has none."""
        library = self._library
        main = library.get("LiteRtGetModelSubgraph", self._model, 0)
        for at in range(library.count("LiteRtGetNumModelSignatures", self._model)):
            signature = library.get("LiteRtGetModelSignature", self._model, at)
            if library.get("LiteRtGetSignatureSubgraph", signature).value == main.value:
                return at, signature
        raise CApiUnavailable("no signature belongs to the main subgraph")

    def _list_tensors(self, side: str) -> list[tuple[int, RankedTensorType]]:
        """Return index in the file and type of each input or output tensor."""
        tensors = []
        for position in range(self._library.count(f"LiteRtGetNumSignature{side}s", self._signature)):
            tensor = self._library.get(f"LiteRtGetSignature{side}TensorByIndex", self._signature, position)
            index, kind = c_uint32(), RankedTensorType()
            self._library.call("LiteRtGetTensorIndex", tensor, byref(index))
            self._library.call("LiteRtGetRankedTensorType", tensor, byref(kind))
            tensors.append((index.value, kind))
        return tensors

    def _resize(self, inputs: list[tuple[int, RankedTensorType]], shapes: Mapping[int, tuple[int, ...]]) -> None:
        for position, (index, _) in enumerate(inputs):
            if index in shapes:
                sizes = (c_int * len(shapes[index]))(*shapes[index])
                self._library.call(
                    "LiteRtCompiledModelResizeInputTensor", self._compiled, self._at, position, sizes, len(sizes)
                )

    def _make_buffers(self, side: str, tensors: list[tuple[int, RankedTensorType]]) -> list[tuple[int, c_void_p]]:
        buffers = []
        layouts = self._layouts(side, len(tensors))
        for position, (index, kind) in enumerate(tensors):
            kind.layout = layouts[position]
            wanted = self._library.get(
                f"LiteRtGetCompiledModel{side}BufferRequirements", self._compiled, self._at, position
            )
            make = "LiteRtCreateManagedTensorBufferFromRequirements"
            buffers.append((index, self._library.get(make, self._environment, byref(kind), wanted)))
        return buffers

    def _layouts(self, side: str, count: int) -> Any:
        """Return the layouts after resizing."""
        layouts = (Layout * count)()
        if side == "Output":
            call = "LiteRtGetCompiledModelOutputTensorLayouts"
            self._library.call(call, self._compiled, self._at, count, layouts, True)
            return layouts
        for position in range(count):
            call = "LiteRtGetCompiledModelInputTensorLayout"
            self._library.call(call, self._compiled, self._at, position, byref(layouts[position]))
        return layouts

    def _pack_arguments(self) -> tuple[Any, ...]:
        inputs = (c_void_p * len(self._inputs))(*(buffer.value for _, buffer in self._inputs))
        outputs = (c_void_p * len(self._outputs))(*(buffer.value for _, buffer in self._outputs))
        return self._compiled, self._at, len(inputs), inputs, len(outputs), outputs

    def bind(self, arrays: Mapping[int, NDArray[Any]]) -> None:
        """Write the inputs by tensor index of the file."""
        for index, buffer in self._inputs:
            data = np.ascontiguousarray(arrays[index])
            if self._size(buffer) != data.nbytes:
                raise CApiUnavailable(f"the library requires {self._size(buffer)} bytes for an input of {data.nbytes}")
            ctypes.memmove(self._library.get_locked(buffer, LOCK_WRITE), data.ctypes.data, data.nbytes)
            self._library.call("LiteRtUnlockTensorBuffer", buffer)

    def fetch(self) -> dict[int, bytes]:
        """Return the outputs as raw bytes, by tensor index of the file."""
        outputs = {}
        for index, buffer in self._outputs:
            outputs[index] = ctypes.string_at(self._library.get_locked(buffer, LOCK_READ), self._size(buffer))
            self._library.call("LiteRtUnlockTensorBuffer", buffer)
        return outputs

    def _size(self, buffer: c_void_p) -> int:
        return self._library.count("LiteRtGetTensorBufferPackedSize", buffer)

    def run(self) -> None:
        """Run one inference. Raises CApiUnavailable if it fails."""
        if status := self._library.run(*self._arguments):
            raise CApiUnavailable(f"LiteRtRunCompiledModel returned status {status}")

    def start_profiler(self) -> None:
        self._library.call("LiteRtResetProfiler", self._profiler)
        self._library.call("LiteRtStartProfiler", self._profiler)

    def stop_profiler(self) -> Any:
        """Return the events since `start_profiler`, as an array of ProfiledEvent; tags live until the next start."""
        self._library.call("LiteRtStopProfiler", self._profiler)
        number = c_int()
        self._library.call("LiteRtGetNumProfilerEvents", self._profiler, byref(number))
        events = (ProfiledEvent * number.value)()
        self._library.call("LiteRtGetProfilerEvents", self._profiler, number.value, events)
        return events


def _owned_text(text: str) -> tuple[c_void_p, c_void_p]:
    """Return a copy of the text that the library frees, and the function to free it with."""
    c = ctypes.CDLL(ctypes.util.find_library("c") if sys.platform == "win32" else None)
    c.strdup.argtypes, c.strdup.restype = (c_char_p,), c_void_p
    return c_void_p(c.strdup(text.encode())), ctypes.cast(c.free, c_void_p)
