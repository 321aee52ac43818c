"""Records of an artifact: a model in a runtime's own format, and its relation to the source."""

from msgspec import Struct

from edgewright.schema.model import GraphNode, Quantization, Signature
from edgewright.schema.vocabulary import Precision

RECORD_SCHEMA = "edgewright.artifact/1"
RECORD_SUFFIX = ".edgewright.json"
RECORD_ROLE = "record"  # of the record among the outputs of a run
SET_SCHEMA = "edgewright.artifact-set/1"
SET_SUFFIX = ".set.json"
MAX_SIZES = 32  # artifacts of one set


class Port(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mapping of one input or output of the source to the artifact.

    From the source's array: transpose so that axis `i` of the result is the source's axis `axes[i]`, reshape to `shape`
    (a runtime may drop the batch), and store in `dtype`, with `quantization` if there is one.

    Attributes:
        source: its name in the source model.
        name: its name in the artifact.
        source_shape: sizes in the source; -1 for an output size that is known only after a run.
        source_dtype: numpy's name.
        axes: a permutation of the source's axes.
        shape: sizes in the artifact.
        dtype: numpy's name of the artifact's type.
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
    """Comparison of an artifact's outputs with the source's in ONNX Runtime fp32; the worst output counts.

    Attributes:
        cosine: of the flattened outputs; 1 if both are all zeros.
        sqnr_db: signal power over the power of the difference; 200 if they are equal bit for bit. The worst output,
            part of an output, or sample counts.
        max_abs: largest absolute difference.
        argmax_agreement: share of the vectors along the last axis with the same largest entry; None if no output is a
            float with two or more entries on its last axis.
        max_relative: largest absolute difference over the sum of the source's absolute value and the output's root mean
            square.
        beyond_tolerance: share of the elements for which this is above 0.001.
        not_finite: number of values that are NaN or infinite in one model only, or differently.
        source_not_finite: number of NaN and infinite values of the source.
        samples: number of inputs.
        seed: of the inputs; None if the user gave them.
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
    max_relative: float = 0.0
    beyond_tolerance: float = 0.0
    source_not_finite: int = 0


class OutputNumerics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`Numerics` of one output.

    Attributes:
        parts: SQNR of each part that a Concat joins, by the name of the tensor that it reads, the worst first.
    """

    name: str
    cosine: float
    sqnr_db: float
    max_abs: float
    argmax_agreement: float | None
    not_finite: int
    max_relative: float = 0.0
    beyond_tolerance: float = 0.0
    source_not_finite: int = 0
    parts: dict[str, float] = {}


class SourceModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The source of an artifact with fixed shapes, and its operators."""

    name: str
    sha256: str
    format: str
    signature: Signature
    graph: tuple[GraphNode, ...] = ()


class Artifact(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record next to an artifact's main file, `STEM.edgewright.json`.

    Attributes:
        main: name of the file or folder that the runtime loads, relative to the record.
        files: hash of every file by its name relative to the record, the main one first.
        key: hash of everything that determines the artifact: source, runtime, precision, shapes, options, tool
            versions.
        options: of the converter.
        tools: versions of the tools that compiled it.
        environment: hash of the lock of the isolated environment that compiled it; empty for Edgewright's own.
        origins: source nodes by the name of the artifact's operator, if they differ and the converter knows them.
        numerics: None if the artifact cannot run here or the check was disabled; `unchecked` is the reason.
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


class SetEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One artifact of a set.

    Attributes:
        shapes: of every input of the source, by its name.
        main: name of the artifact's main file, beside the set file.
        files: as in its record.
    """

    shapes: dict[str, tuple[int, ...]]
    main: str
    files: dict[str, str]


class ArtifactSet(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Artifacts of one source in one runtime and precision for several sizes of its inputs, `NAME.set.json`.

    Attributes:
        source: name of the source model's file.
        source_sha256: its hash.
        inputs: names of the source's inputs.
        entries: one artifact for each combination of sizes.
    """

    schema: str = SET_SCHEMA
    runtime: str
    precision: Precision
    source: str
    source_sha256: str
    inputs: tuple[str, ...]
    entries: tuple[SetEntry, ...]
