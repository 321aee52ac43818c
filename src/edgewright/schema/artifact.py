"""What an artifact is: a model in one runtime's own format, and how it belongs to its source."""

from msgspec import Struct

from edgewright.schema.model import GraphNode, Quantization, Signature
from edgewright.schema.vocabulary import Precision

RECORD_SCHEMA = "edgewright.artifact/1"
RECORD_SUFFIX = ".edgewright.json"


class Port(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one input or output of the source lies in an artifact.

    From the source's array: transpose so that axis `i` of the result is the source's axis `axes[i]`, reshape to
    `shape` (a runtime may drop the batch), and store in `dtype`, by `quantization` where there is one.

    Attributes:
        source: its name in the source model.
        name: its name in the artifact.
        source_shape: sizes of the source; -1 for a size of an output that only a run tells.
        source_dtype: numpy's name.
        axes: a permutation of the source's axes.
        shape: sizes in the artifact.
        dtype: numpy's name of the type that the artifact takes or gives.
    """

    source: str
    name: str
    source_shape: tuple[int, ...]
    source_dtype: str
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None


class IoMap(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All inputs and outputs of a source in an artifact, in the source's order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


class Numerics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An artifact's outputs against the source's in ONNX Runtime fp32, on the same inputs; the worst output counts.

    Attributes:
        cosine: of the flattened outputs; 1 where both are all zeros.
        sqnr_db: signal power over the power of the difference; 200 where they are equal bit for bit.
        max_abs: largest absolute difference.
        argmax_agreement: share of the vectors along the last axis whose largest entry is the same one; None where no
            output is a float of two or more entries on its last axis.
        not_finite: number of NaN and infinite values that the source does not have in the same place.
        samples: number of inputs that were run.
        seed: of the inputs; None where the user gave them.
        worst_output: name of the source's output with the lowest SQNR.
        outputs: the same figures for each output.
    """

    cosine: float
    sqnr_db: float
    max_abs: float
    argmax_agreement: float | None
    not_finite: int
    samples: int
    seed: int | None
    worst_output: str
    outputs: tuple["OutputNumerics", ...] = ()


class OutputNumerics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`Numerics` of one output."""

    name: str
    cosine: float
    sqnr_db: float
    max_abs: float
    argmax_agreement: float | None
    not_finite: int


class SourceModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that an artifact was compiled from, with all its shapes fixed, and its operators."""

    name: str
    sha256: str
    format: str
    signature: Signature
    graph: tuple[GraphNode, ...] = ()


class Artifact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record that lies beside an artifact's main file, as `STEM.edgewright.json`.

    Attributes:
        main: name of the file or folder that the runtime is given, relative to the record.
        files: hash of every file by its name relative to the record, the main one first.
        key: hash of all that decides the artifact: source, runtime, precision, shapes, options, tool versions.
        options: what was asked of the compiler.
        tools: versions of what compiled it.
        environment: hash of the lock of the isolated environment it was compiled in; empty for our own.
        origins: source nodes by the name of the artifact's operator, where the two differ and the compiler knows.
        numerics: None where the artifact cannot run here, or the check was switched off; `unchecked` says which.
    """

    schema: str = RECORD_SCHEMA
    runtime: str
    format: str
    precision: Precision
    main: str
    files: dict[str, str]
    bytes: int
    key: str
    source: SourceModel
    io_map: IoMap
    options: dict[str, str] = {}
    tools: dict[str, str] = {}
    environment: str = ""
    origins: dict[str, tuple[str, ...]] = {}
    notes: tuple[str, ...] = ()
    numerics: Numerics | None = None
    unchecked: str = ""
