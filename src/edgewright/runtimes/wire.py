"""The words that parent and worker say to each other: JSON lines, one message a line.

The worker greets with `Hello`. After that each `Request` is answered by one `Answer` with the same id, in
order. Tensors are never on the wire: they travel as `.npz` files, named by path, or as
tensor files (`tensor_file.py`) where many chunks pass.
"""

from typing import Literal

from msgspec import Struct

from edgewright.schema.artifact import IoMap
from edgewright.schema.model import Signature
from edgewright.schema.plan import ModelMetadata
from edgewright.schema.vocabulary import Precision

PROTOCOL = 2


class ResidentMemory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resident memory of the worker in bytes, now and at its peak; None where the system does not say."""

    rss: int | None
    peak: int | None


class Hello(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hello"):
    """The worker's first line, once the runtime's library is imported (`CommandFailed` if that fails)."""

    protocol: int
    runtime: str
    version: str
    pid: int
    python: str
    import_us: float
    memory: ResidentMemory


class SessionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `open_session` is asked for.

    Attributes:
        model: path of the model file on the machine of the worker.
        threads: threads for one inference.
        options: the runtime's own options, already known to be among `RuntimeInfo.options`.
        shapes: sizes for the inputs whose shape is free.
        model_bytes: of all the model's files; what the worker may allocate grows with them.
    """

    model: str
    threads: int = 1
    options: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    model_bytes: int = 0


class Open(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="open"):
    """Load a model and bind its inputs, which are in the file `feeds`."""

    session: SessionRequest
    feeds: str


class TimeRuns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="run"):
    """Time `runs` inferences, or fewer if `seconds` pass before.

    `settle` inferences are run first and not timed: the pause between two requests cools the caches.
    """

    runs: int
    seconds: float
    settle: int = 0


class Calibrate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="calibrate"):
    """Time `runs` inferences that do nothing, and a fixed piece of arithmetic: the machine's speed."""

    runs: int


class Invoke(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="invoke"):
    """Run once on the arrays in `feeds` and write the outputs to `outputs`, both `.npz` or tensor files.

    With `stacked` each array has one more leading axis, and the model runs once for each entry of it.
    """

    feeds: str
    outputs: str
    stacked: bool = False


class ProfileRuns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="profile"):
    """Profile `runs` inferences and leave the trace in `folder`."""

    session: SessionRequest
    feeds: str
    runs: int
    folder: str


class CompileRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a runtime's `compile` is asked for.

    Attributes:
        source: path of the source model on the machine of the worker. An ONNX source has fixed shapes and a unique
            name on every node (`formats/onnx/prepare.py`).
        format: the source's format, one of `RuntimeInfo.compiles`.
        precision: fp32 leaves the source's types as they are, those of a quantized one too.
        shapes: sizes of every input.
        folder: an empty folder to write into.
        stem: what the names of all written files and folders begin with.
        options: the runtime's own options, already known to be among `RuntimeInfo.compile_options`.
        metadata: what the artifact shall say of itself where its format can.
        model_bytes: of all the source's files; what the worker may allocate grows with them.
    """

    source: str
    format: str
    precision: Precision
    shapes: dict[str, tuple[int, ...]]
    folder: str
    stem: str
    options: dict[str, str] = {}
    metadata: ModelMetadata | None = None
    model_bytes: int = 0


class Compile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="compile"):
    """Turn a source into the runtime's own files."""

    request: CompileRequest


class ReadMemory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="memory"):
    """Tell the resident memory."""


class Close(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="close"):
    """Free the session and leave."""


Command = Open | TimeRuns | Calibrate | Invoke | ProfileRuns | Compile | ReadMemory | Close


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: int
    command: Command


class Opened(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="opened"):
    load_us: float
    memory: ResidentMemory
    signature: Signature
    notes: tuple[str, ...]


class Times(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="times"):
    """Wall and process CPU time of each inference, nanoseconds."""

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]


class ClockCalibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="calibration"):
    """The harness's own cost per sample, the clock's smallest step, and the time of the fixed arithmetic."""

    wall_ns: float
    cpu_ns: float
    resolution_ns: float
    reference_us: float


class Compiled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="compiled"):
    """What a compiler wrote.

    Attributes:
        main: name in the request's folder of the file or folder that `open_session` takes.
        io_map: all inputs and outputs of the source in the artifact.
        tools: versions of the packages that took part, by distribution.
        origins: source nodes by the name of the artifact's operator, where the two differ.
        notes: what the user should know of the result.
        twin: name in the folder of an ONNX file that computes what the artifact shall, where its format rounds
            otherwise than the source; it is no part of the artifact.
    """

    main: str
    io_map: IoMap
    tools: dict[str, str]
    origins: dict[str, tuple[str, ...]] = {}
    notes: tuple[str, ...] = ()
    twin: str = ""


class CommandDone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="told"):
    """Done; the memory at that moment."""

    memory: ResidentMemory


FailureKind = Literal["model", "input", "conversion", "missing", "memory", "limit", "room", "internal"]


class CommandFailed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="refused"):
    """The command failed and the worker lives on.

    `kind` is `model` (the runtime's library rejected), `input` (the feeds do not fit), `conversion` (a compiler cannot
    express the model), `missing` (a package is not installed), `memory` (an allocation failed), `limit` (the memory or
    time for one model does not suffice), `room` (the disk is full) or `internal`; `trace` is the traceback for the log,
    `hint` the next step where the rejection knows one.
    """

    kind: FailureKind
    why: str
    trace: str
    hint: str = ""


Greeting = Hello | CommandFailed
Result = Opened | Times | ClockCalibration | Compiled | CommandDone | CommandFailed


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: int
    result: Result
