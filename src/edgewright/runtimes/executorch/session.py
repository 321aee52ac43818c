"""Session of a program in ExecuTorch's native runtime."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgewright.runtimes.contract import Mismatch, Rejected, check_feeds
from edgewright.runtimes.executorch.description import (
    METHOD,
    ProgramDescription,
    describe_undelegated,
    read_description,
)
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.model import Signature, TensorSpec

# c10/core/ScalarType.h
TYPES = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}


class LoadedMethod(NamedTuple):
    """A loaded program with its method `forward`; the program must outlive the method."""

    program: Any
    forward: Any
    meta: Any
    description: ProgramDescription | None


class ExecutorchSession:
    """A loaded program; see `contract.Session`. `run` is the method's own `execute`.

    If a program has its inputs in the planned memory (ours have not), they are set before each run, since the
    previous inference overwrote them.
    """

    signature: Signature
    notes: Sequence[str]
    run: Callable[[], None]

    def __init__(self, request: SessionRequest) -> None:
        set_threads(request.threads)
        self._method: LoadedMethod | None = load_method(Path(request.model))
        self.signature = read_signature(self._method)
        _check_shapes(self.signature, request.shapes)
        self.notes = describe_undelegated(self._method.description)
        self._bound: list[Any] = []
        meta = self._method.meta
        planned = any(meta.input_tensor_meta(i).is_memory_planned() for i in range(meta.num_inputs()))
        self.run = self._set_and_run if planned else self._method.forward.execute

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Copy the inputs. Raises Mismatch if they do not fit."""
        import torch

        check_feeds(self.signature, feeds)
        arrays = [np.array(feeds[spec.name], order="C", copy=True) for spec in self.signature.inputs]
        self._bound = [torch.from_numpy(array) for array in arrays]  # the method reads them in place
        self._open().forward.set_inputs(self._bound)

    def fetch(self) -> dict[str, NDArray[Any]]:
        """Return the outputs of the last run, as copies."""
        outputs = self._open().forward.get_outputs(True)
        return {spec.name: np.array(tensor) for spec, tensor in zip(self.signature.outputs, outputs, strict=True)}

    def close(self) -> None:
        """Free the program; the session cannot be used afterwards."""
        self.run = _closed
        self._method = None
        self._bound = []

    def _set_and_run(self) -> None:
        forward = self._open().forward
        forward.set_inputs(self._bound)
        forward.execute()

    def _open(self) -> LoadedMethod:
        if self._method is None:
            raise RuntimeError("the session is closed")
        return self._method


def native() -> Any:
    """Return the wheel's native module without its Python modules."""
    import torch  # noqa: F401  # the native part is linked against its libraries
    from executorch.extension.pybindings import _C

    return _C


def set_threads(threads: int) -> None:
    """Set the size of the process's thread pool, before a program that keeps it is loaded."""
    library = native()
    if library._threadpool_get_thread_count() != threads:
        library._unsafe_reset_threadpool(threads)


def load_method(path: Path, *, events: bool = False) -> LoadedMethod:
    """Load the method. With `events` its operators record their times. Raises Rejected with ExecuTorch's reason."""
    library = native()
    try:
        if not path.is_file():
            raise Rejected(f"file not found: {path}")
        program = library._load_program(str(path), enable_etdump=events)
        names = [program.get_method_name(i) for i in range(program.num_methods())]
        if "forward" not in names:
            raise Rejected(f"the program has no method 'forward'; it has {', '.join(names) or 'none'}")
        description = _describe(program) if METHOD in names else None
        forward = program.load_method("forward")
        return LoadedMethod(program, forward, forward.method_meta(), description)
    except (RuntimeError, ValueError) as error:
        raise Rejected(str(error).strip() or type(error).__name__) from error


def _describe(program: Any) -> ProgramDescription | None:
    (text,) = program.load_method(METHOD).call([])
    return read_description(text) if isinstance(text, str) else None


def read_signature(method: LoadedMethod) -> Signature:
    """Return the signature with the description's names; without a description they are input0, output0 and so on."""
    meta, description = method.meta, method.description
    inputs = [meta.input_tensor_meta(i) for i in range(meta.num_inputs())]
    outputs = [meta.output_tensor_meta(i) for i in range(meta.num_outputs())]
    return Signature(
        inputs=_name_tensors(inputs, description.inputs if description else (), "input"),
        outputs=_name_tensors(outputs, description.outputs if description else (), "output"),
    )


def _name_tensors(infos: Sequence[Any], names: Sequence[str], word: str) -> tuple[TensorSpec, ...]:
    given = names if len(names) == len(infos) else [f"{word}{i}" for i in range(len(infos))]
    return tuple(
        TensorSpec(name=name, dtype=TYPES.get(info.dtype(), "unknown"), shape=tuple(int(size) for size in info.sizes()))
        for name, info in zip(given, infos, strict=True)
    )


def _check_shapes(signature: Signature, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise Rejected for other shapes, since a program has fixed sizes."""
    fixed = {spec.name: spec.shape for spec in signature.inputs}
    for name, shape in shapes.items():
        if fixed.get(name) != tuple(shape):
            raise Mismatch(f"input '{name}' has shape {list(shape)}, but the program's inputs are {fixed}")


def _closed() -> None:
    raise RuntimeError("the session is closed")
