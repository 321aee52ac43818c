"""Model inputs: generated from a seed or given by the user, checked before any process starts."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from edgewright.errors import InputError
from edgewright.formats.npz import NpzError, read_npz
from edgewright.limits import MEMORY_VARIABLE, read_budget
from edgewright.schema.arrays import Array
from edgewright.schema.model import Signature, TensorSpec

BLOCK = 1 << 20  # elements drawn at once, since numpy draws in double precision
MAX_NPZ_BYTES = 2**60  # represents no limit
MAX_FIXED = 4096  # elements of an input with a fixed value; sizes and conditions follow from smaller ones
MAX_AXES = 64  # numpy's own limit
FLOATS = ("float16", "float32", "float64")
SMALL_INTS = ("int8", "uint8", "int16", "uint16")
INTS = (*SMALL_INTS, "int32", "int64", "uint32", "uint64")


def resolve_shapes(
    signature: Signature, shapes: Mapping[str, Sequence[int]], *, may_override: bool = False
) -> dict[str, tuple[int, ...]]:
    """Return the full shape of every input.

    A named dimension has the same size in all inputs, so that one of them may give it.

    Args:
        may_override: whether a size in `shapes` may differ from a fixed one of the model.

    Raises InputError for a dynamic dimension without a size in `shapes`, or a size that contradicts the model.
    """
    named = _read_named_sizes(signature, shapes)
    return {
        spec.name: _resolve_shape(spec, shapes.get(spec.name), named, may_override=may_override)
        for spec in signature.inputs
    }


def fix_batch(signature: Signature, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return shapes with batch 1 for the inputs whose only dynamic dimension is the first, except those that `shapes`
    fixes.
    """
    named = _read_named_sizes(signature, shapes)
    return {
        spec.name: (1, *(size for size in spec.shape[1:] if isinstance(size, int)))
        for spec in signature.inputs
        if spec.name not in shapes
        and not any(size in named for size in spec.shape[:1])
        and spec.default_shape is None
        and [isinstance(size, str) for size in spec.shape] == [True] + [False] * (len(spec.shape) - 1)
    }


def describe_batch(name: str) -> str:
    """Return the note on an input whose batch was chosen by `fix_batch`."""
    return f"the free batch of input '{name}' is 1; --shape {name}=SIZES sets another"


def _read_named_sizes(signature: Signature, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the sizes of named dimensions in the given shapes."""
    return {
        name: size
        for spec in signature.inputs
        for name, size in zip(spec.shape, shapes.get(spec.name, ()), strict=False)
        if isinstance(name, str) and name
    }


def _resolve_shape(
    spec: TensorSpec, given: Sequence[int] | None, named: Mapping[str, int], *, may_override: bool
) -> tuple[int, ...]:
    sizes = [named.get(size, size) if isinstance(size, str) else size for size in spec.shape]
    known = tuple(size for size in sizes if isinstance(size, int))
    if given is None and len(known) == len(spec.shape):
        return known
    if given is None and spec.default_shape is not None and not _is_placeholder(spec, spec.default_shape):
        return spec.default_shape
    if given is None:
        free = ", ".join(size or "?" for size in sizes if isinstance(size, str))
        raise InputError(
            f"input '{spec.name}' has dynamic dimensions ({free})",
            f"its shape is {_show_shape(spec.shape)}",
            f"set them with --shape {spec.name}={','.join(guess_sizes(sizes))}",
        )
    if len(given) != len(spec.shape) or (not may_override and has_other_sizes(spec, given)):
        raise InputError(
            f"--shape {spec.name}={','.join(map(str, given))} does not fit the model",
            f"the model's shape is {_show_shape(spec.shape)}",
            f"give {len(spec.shape)} sizes" if len(given) != len(spec.shape) else "keep the fixed sizes",
        )
    return tuple(given)


def has_other_sizes(spec: TensorSpec, given: Sequence[int]) -> bool:
    """Return whether a size differs from a fixed one of the model."""
    return any(isinstance(size, int) and size != one for size, one in zip(spec.shape, given, strict=True))


def make_fixed(
    signature: Signature, shapes: Mapping[str, Sequence[int]], fixed: Mapping[str, Sequence[int | float]]
) -> dict[str, Array]:
    """Return the arrays of inputs with a fixed value.

    Args:
        shapes: of inputs with dynamic dimensions.
        fixed: by the name of an input, one number for all its elements, or one for each.

    Raises InputError for a name that is no input, and for numbers that do not fit the input.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    if unexpected := fixed.keys() - specs.keys():
        raise InputError(
            f"--fix {min(unexpected)}: the model has no such input",
            f"the inputs are {', '.join(sorted(specs)) or 'none'}",
            "use one of these names",
        )
    own = Signature(inputs=tuple(specs[name] for name in fixed), outputs=())
    sizes = resolve_shapes(own, shapes, may_override=True)
    return {name: _make_fixed_array(specs[name], sizes[name], values) for name, values in fixed.items()}


def _make_fixed_array(spec: TensorSpec, shape: tuple[int, ...], values: Sequence[int | float]) -> Array:
    given = f"--fix {spec.name}={','.join(map(str, values[:8]))}{',…' * (len(values) > 8)}"
    count = prod(shape)
    if count > MAX_FIXED:
        why = f"the input has {count} elements, and up to {MAX_FIXED} can be fixed"
        raise InputError(f"{given} cannot be used", why, "keep it as an input")
    if len(values) not in (1, count):
        why = f"the shape of the input is {_show_shape(shape)}"
        raise InputError(
            f"{given} does not fit the input", why, "give 1 value" + (f" or {count} values" if count > 1 else "")
        )
    if spec.dtype not in (*FLOATS, *INTS, "bool"):
        why = f"the input has type {spec.dtype}, and only numbers can be fixed"
        raise InputError(f"{given} cannot be used", why, "keep it as an input")
    dtype = np.dtype(spec.dtype)
    low, high = _list_bounds(dtype)
    if any(not low <= value <= high or (dtype.kind != "f" and value != int(value)) for value in values):
        kind = "number" if dtype.kind == "f" else "whole number"
        why = f"the input has type {spec.dtype}"
        raise InputError(f"{given} does not fit the input", why, f"give a {kind} from {low} to {high}")
    return np.full(shape, values[0], dtype) if len(values) == 1 else np.array(values, dtype).reshape(shape)


def _list_bounds(dtype: "np.dtype[Any]") -> tuple[float, float]:
    if dtype.kind == "b":
        return 0, 1
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return limits.min, limits.max


def _is_placeholder(spec: TensorSpec, default: Sequence[int]) -> bool:
    """Return whether a TFLite file has no sizes of its own: converters write 1 for a dynamic one, also for a width."""
    sizes = zip(spec.shape[1:], default[1:], strict=True)
    return any(isinstance(size, str) and own == 1 for size, own in sizes)


def _show_shape(shape: Sequence[int | str]) -> str:
    return "[" + ", ".join(str(size) or "?" for size in shape) + "]"


def guess_sizes(shape: Sequence[int | str]) -> list[str]:
    """Return example sizes for the hint: 1 for a dynamic first dimension or one called batch, 224 for those of images,
    128 for others.
    """
    usual = "224" if len(shape) == 4 else "128"
    return [
        str(size) if isinstance(size, int) else "1" if i == 0 or "batch" in size.lower() else usual
        for i, size in enumerate(shape)
    ]


def make_feeds(signature: Signature, shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Array]:
    """Return seeded arrays for all inputs (numpy's PCG64).

    Floats are standard normal. 8- and 16-bit integers cover their whole range, like quantized inputs; wider ones are 0
    or 1, which is a valid index or mask for any model; booleans are uniform.

    Raises InputError for types that cannot be generated, and LimitReached if the arrays exceed the memory budget.
    """
    check_size(signature, shapes)
    random = np.random.default_rng(seed)
    return {spec.name: make_array(spec, tuple(shapes[spec.name]), random) for spec in signature.inputs}


def make_array(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Return an array as `make_feeds` does for all inputs."""
    if spec.dtype in FLOATS:
        return draw_blocks(shape, np.dtype(spec.dtype), random, lambda own, count: own.standard_normal(count))
    if spec.dtype == "bool":
        return random.integers(0, 2, shape).astype(bool)
    if spec.dtype in SMALL_INTS:
        limits = np.iinfo(spec.dtype)
        return random.integers(limits.min, limits.max + 1, shape).astype(spec.dtype)
    if spec.dtype in INTS:
        return random.integers(0, 2, shape).astype(spec.dtype)
    raise InputError(
        f"input '{spec.name}' has type {spec.dtype}",
        "arrays of this type cannot be generated",
        "provide them with --inputs FILE.npz",
    )


def check_size(signature: Signature, shapes: Mapping[str, Sequence[int]], samples: int = 1) -> None:
    """Raise LimitReached if `samples` of the inputs exceed the memory budget."""
    for spec in signature.inputs:
        if len(shapes[spec.name]) > MAX_AXES:
            what = f"input '{spec.name}' has {len(shapes[spec.name])} axes"
            raise InputError(what, f"arrays have at most {MAX_AXES}", "give fewer sizes with --shape")
    size = sum(_count_bytes(spec, shapes[spec.name]) for spec in signature.inputs)
    what = "the model's input" if len(signature.inputs) == 1 else "the model's inputs"
    hint = (
        "give smaller sizes with --shape"
        if samples == 1 or 2 * size > read_budget().memory_bytes
        else "use --samples 1"
    )
    read_budget().check_bytes(samples * size, f"{samples} samples of {what}" if samples > 1 else what, hint)


def _count_bytes(spec: TensorSpec, shape: Sequence[int]) -> int:
    """Return the bytes of an array, with the 64-bit intermediate of integers."""
    width = np.dtype(spec.dtype).itemsize if spec.dtype in FLOATS else 16
    return prod(max(1, size) for size in shape) * width


def draw_blocks(
    shape: tuple[int, ...],
    dtype: "np.dtype[Any]",
    random: np.random.Generator,
    draw: Callable[[np.random.Generator, int], Array],
) -> Array:
    """Return an array of random numbers, drawn in blocks to bound the memory."""
    array = np.empty(prod(shape), dtype)
    for start in range(0, array.size, BLOCK):
        block = array[start : start + BLOCK]
        block[:] = draw(random, block.size)
    return array.reshape(shape)


def read_feeds(path: Path, signature: Signature) -> dict[str, Array]:
    """Return the arrays of an .npz file, checked against the signature; InputError if they do not fit."""
    feeds = _load_npz(path)
    expected = {spec.name: spec for spec in signature.inputs}
    if missing := expected.keys() - feeds.keys():
        raise InputError(
            f"{path} has no array for input '{min(missing)}'",
            f"it has {sorted(feeds) or 'no arrays'}; the model's inputs are {sorted(expected)}",
            "name the arrays like the model's inputs: numpy.savez(FILE, name=array)",
        )
    if unexpected := feeds.keys() - expected.keys():
        raise InputError(
            f"{path} has an array '{min(unexpected)}' that is not an input",
            f"the model's inputs are {sorted(expected)}",
            "remove it",
        )
    for name, array in feeds.items():
        _check_array(path, expected[name], array)
    return feeds


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of an .npz file; InputError if it cannot be read."""
    return {name: array.shape for name, array in _load_npz(path).items()}


def _load_npz(path: Path) -> dict[str, Array]:
    try:
        return read_npz(path, int(min(read_budget().memory_bytes, MAX_NPZ_BYTES))).arrays
    except FileNotFoundError:
        raise InputError(
            f"file not found: {path}",
            "a relative path is resolved from the current folder",
            "check the path given to --inputs",
        ) from None
    except NpzError as error:
        hint = f"write it with numpy.savez(FILE, name=array); {MEMORY_VARIABLE} limits the size of its arrays"
        raise InputError(f"{path} is not a readable .npz file", str(error), hint) from None


def _check_array(path: Path, spec: TensorSpec, array: Array) -> None:
    if array.dtype.name != spec.dtype and not (spec.dtype == "str" and array.dtype.kind == "U"):
        raise InputError(
            f"{path}: '{spec.name}' is {array.dtype.name}",
            f"the model's input is {spec.dtype}",
            f"convert it with array.astype('{spec.dtype}')",
        )
    if len(array.shape) != len(spec.shape) or any(
        isinstance(size, int) and size != given for size, given in zip(spec.shape, array.shape, strict=True)
    ):
        raise InputError(
            f"{path}: '{spec.name}' has shape {list(array.shape)}",
            f"the model's input has shape {_show_shape(spec.shape)}",
            "reshape the array",
        )


def write_feeds(path: Path, feeds: Mapping[str, Array]) -> None:
    """Write an .npz; equal arrays give equal bytes. (numpy.savez cannot write an array called `file`.)"""
    with ZipFile(path, "w") as archive:
        for name, array in feeds.items():
            with archive.open(ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
