"""Kernels and reference functions of custom operators as C functions, and the library that ONNX Runtime loads."""

import ctypes
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.kernels.custom.description import DTYPES, CustomOperator, load_reference
from edgewright.kernels.custom.folder import OperatorsFile, find_library, read_operators_file
from edgewright.kernels.library import load_library
from edgewright.schema.arrays import Array

_NUMPY = {number: np.dtype(name) for name, number in DTYPES.items()}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("rank", ctypes.c_int32),
        ("type", ctypes.c_int32),
    )


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("names", ctypes.POINTER(ctypes.c_char_p)),
        ("values", ctypes.POINTER(ctypes.c_double)),
        ("count", ctypes.c_int32),
    )


_KERNEL = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Attributes), ctypes.POINTER(_Tensor), ctypes.POINTER(_Tensor))


class _Declaration(ctypes.Structure):
    """`ewo_operator` of `native/operators.c`."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("domain", ctypes.c_char_p),
        ("types", ctypes.POINTER(ctypes.c_int32)),
        ("inputs", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("attributes", ctypes.c_int32),
        ("attribute_names", ctypes.POINTER(ctypes.c_char_p)),
        ("attribute_defaults", ctypes.POINTER(ctypes.c_double)),
        ("attribute_is_int", ctypes.POINTER(ctypes.c_int32)),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("kernel", _KERNEL),
    )


_declared: dict[str, _Declaration] = {}  # by key; ONNX Runtime reads them as long as the process lives


def register_operators(options: Any, path: Path) -> None:
    """Register the custom operators that a file names with the options of a session of ONNX Runtime.

    Raises ValueError if a library is missing or cannot be used, and ConfigError of a reference that cannot be loaded.
    """
    given = read_operators_file(path)
    functions = find_functions(given)
    shim, why = load_library()
    if shim is None:
        raise ValueError(f"Edgewright's own library of kernels cannot be used: {why}")
    for one in given.operators:
        if one.key not in _declared:
            _declared[one.key] = _declare(one, functions[one.key])
            if not shim.ewo_add(ctypes.byref(_declared[one.key])):
                raise ValueError("there are too many custom operators")
    options.register_custom_ops_library(shim._name)


def find_functions(given: OperatorsFile) -> dict[str, Any]:
    """Return the C function of each operator: its kernel, or for a reference run one that calls its reference."""
    if given.reference:
        folder = Path(given.reference)
        return {one.key: _KERNEL(_wrap(one, load_reference(one, folder))) for one in given.operators}
    path = find_library(given)
    try:
        library = ctypes.CDLL(str(path))
        return {one.key: _KERNEL((one.function, library)) for one in given.operators}
    except (OSError, AttributeError) as error:
        raise ValueError(f"the library of custom operators cannot be used: {error}") from None


def _declare(one: CustomOperator, kernel: Any) -> _Declaration:
    types = [DTYPES[kind] for kind in (*one.inputs.values(), *(output.type for output in one.outputs))]
    sizes, count = one.compile_shapes(), len(one.attributes)
    return _Declaration(
        one.name.encode(),
        one.domain.encode(),
        (ctypes.c_int32 * len(types))(*types),
        len(one.inputs),
        len(one.outputs),
        count,
        (ctypes.c_char_p * count)(*(name.encode() for name in one.attributes)),
        (ctypes.c_double * count)(*one.attributes.values()),
        (ctypes.c_int32 * count)(*(isinstance(value, int) for value in one.attributes.values())),
        (ctypes.c_int64 * len(sizes))(*sizes),
        kernel,
    )


def _wrap(one: CustomOperator, function: Callable[..., Any]) -> Callable[[Any, Any, Any], int]:
    """Return a kernel that calls a function of numpy arrays; its error is the reason of the failure."""

    def call(attributes: Any, inputs: Any, outputs: Any) -> int:
        try:
            own = attributes[0]
            named = {own.names[i].decode(): own.values[i] for i in range(own.count)}
            typed = {name: type(one.attributes[name])(value) for name, value in named.items()}
            given = [_as_array(inputs[i]).copy() for i in range(len(one.inputs))]
            results = function(*given, **typed)
            for i, result in enumerate(results if isinstance(results, tuple) else (results,)):
                _store(one, np.asarray(result), _as_array(outputs[i]))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            _explain(f"its reference {one.reference} fails: {error}")
            return 1
        return 0

    return call


def _store(one: CustomOperator, result: Array, output: Array) -> None:
    if result.shape != output.shape:
        raise ValueError(
            f"it returns shape {list(result.shape)}, but the rule of the output gives {list(output.shape)}"
        )
    output[...] = result


def _explain(why: str) -> None:
    shim, _ = load_library()
    if shim is not None:
        shim.ewo_explain(why.encode())


def _as_array(tensor: Any) -> Array:
    dtype = _NUMPY[tensor.type]
    shape = tuple(tensor.shape[: tensor.rank])
    size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    buffer: Any = (ctypes.c_char * size).from_address(tensor.data) if size else bytearray()
    return np.frombuffer(buffer, dtype).reshape(shape)


class KernelCall:
    """A kernel with its attributes and shapes, which is called with addresses of data."""

    def __init__(self, kernel: Any, attributes: Mapping[str, float], types: Sequence[int]) -> None:
        self._kernel, self._types = kernel, types
        names = (ctypes.c_char_p * len(attributes))(*(name.encode() for name in attributes))
        values = (ctypes.c_double * len(attributes))(*attributes.values())
        self._attributes = _Attributes(names, values, len(attributes))

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> int:
        """Compute the outputs, contiguous arrays, from the inputs; return what the kernel returns."""
        tensors = [self._describe(array, kind) for array, kind in zip((*inputs, *outputs), self._types, strict=True)]
        given = (_Tensor * len(inputs))(*tensors[: len(inputs)])
        made = (_Tensor * len(outputs))(*tensors[len(inputs) :])
        return int(self._kernel(ctypes.byref(self._attributes), given, made))

    @staticmethod
    def _describe(array: Array, kind: int) -> _Tensor:
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        return _Tensor(array.ctypes.data, shape, array.ndim, kind)
