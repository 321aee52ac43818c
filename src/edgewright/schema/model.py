"""What a model is: a file with a content hash, a format and a signature."""

from msgspec import Struct

from edgewright.schema.vocabulary import Precision


class Quantization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Affine quantisation of one tensor: real = scale × (stored − zero_point)."""

    scale: float
    zero_point: int


class TensorSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input or output of a model.

    `dtype` is numpy's name (`float32`, `int8`, `bool`, `str` for text). In `shape` an int is a fixed size
    and a str names a size that is free (`""` where the file gives it no name). `default_shape` is what the file
    itself runs with where sizes are free and it says so, as TFLite does.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    quantization: Quantization | None = None
    default_shape: tuple[int, ...] | None = None


class Signature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inputs that must be fed and the outputs that come back, in the file's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class GraphNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator of a graph. `inputs` and `outputs` are tensor names; constants are left out of `inputs`.

    A node without a name of its own is named `OP#position`.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model file as it lies on disk.

    `sha256` is the hash of the main file, or, where weights lie in files of their own (`data_files`, names
    relative to the main file), of the concatenated hex digests of all its files, main file first. `bytes`
    counts all of them.
    """

    path: str
    name: str
    format: str
    sha256: str
    bytes: int
    signature: Signature
    precision: Precision
    data_files: tuple[str, ...] = ()
