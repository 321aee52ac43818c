"""Model record: a file with a content hash, a format and a signature."""

from msgspec import Struct

from edgewright.schema.vocabulary import Precision


class Quantization(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Affine quantization of one tensor: real = scale × (stored − zero_point)."""

    scale: float
    zero_point: int


class TensorSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input or output of a model.

    `dtype` is numpy's name (`float32`, `int8`, `bool`, `str` for text). In `shape` an int is a fixed size and a str
    names a dynamic dimension (`""` without a name). `default_shape` is the file's own default for dynamic dimensions,
    as in TFLite.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    quantization: Quantization | None = None
    default_shape: tuple[int, ...] | None = None


class Signature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inputs and outputs of a model, in the file's order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class GraphNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One operator of a graph. `inputs` and `outputs` are tensor names; `inputs` does not include constants.

    A node without a name is called `OP#position`.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model file on disk.

    `sha256` is the hash of the main file, or, if weights are in separate files (`data_files`, names relative to the
    main file), of the concatenated hex digests of all files, main file first. `bytes` counts all of them.
    """

    path: str
    name: str
    format: str
    sha256: str
    bytes: int
    signature: Signature
    precision: Precision
    data_files: tuple[str, ...] = ()
