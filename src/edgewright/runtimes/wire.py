"""Messages between parent and worker: JSON, one message per line.

The worker greets with `Hello`. After that each `Request` is answered by one `Answer` with the same id, in
order. Tensors are never in messages: they are passed by path as `.npz` files, or as
tensor files (`tensor_file.py`) for many chunks.
"""

from typing import Literal

from msgspec import Struct

from edgewright.schema.artifact import IoMap
from edgewright.schema.model import Signature
from edgewright.schema.plan import ModelMetadata
from edgewright.schema.vocabulary import Precision

PROTOCOL = 3


class ResidentMemory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Current and peak resident memory of the worker in bytes; None if the system does not report it."""

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
    """Request for `open_session`.

    Attributes:
        model: path of the model file on the machine of the worker.
        threads: threads for one inference.
        options: the runtime's own options, checked against `RuntimeInfo.options`.
        shapes: sizes of the inputs with dynamic shapes.
        model_bytes: size of all the model's files, on which the worker's memory limit depends.
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
    """Time `runs` inferences, or fewer if they exceed `seconds`.

    `settle` inferences run first without timing, since the pause between two requests cools the caches.
    `interval_ns` starts one inference per interval, as at a frame rate; 0 starts each at once.
    """

    runs: int
    seconds: float
    settle: int = 0
    interval_ns: int = 0


class Calibrate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="calibrate"):
    """Time `runs` empty inferences, and a fixed piece of arithmetic, which shows the machine's speed."""

    runs: int


class Invoke(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="invoke"):
    """Run once on the arrays in `feeds` and write the outputs to `outputs`, both `.npz` or tensor files.

    With `stacked` each array has an additional leading axis, and the model runs once for each entry of it.
    """

    feeds: str
    outputs: str
    stacked: bool = False


class TimePhases(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="phases"):
    """Run each entry of the stacked arrays in `feeds` once with a time for each step, and write the outputs."""

    feeds: str
    outputs: str


class ProfileRuns(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="profile"):
    """Profile `runs` inferences and write the trace to `folder`."""

    session: SessionRequest
    feeds: str
    runs: int
    folder: str


class CompileRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Request for a runtime's `compile`.

    Attributes:
        source: path of the source model on the machine of the worker. An ONNX source has fixed shapes and a unique
            name on every node (`formats/onnx/normalize/source.py`).
        format: the source's format, one of `RuntimeInfo.compiles`.
        precision: fp32 keeps the source's types, even those of a quantized one.
        shapes: sizes of every input.
        folder: an empty folder to write into.
        stem: prefix of the names of all written files and folders.
        options: the runtime's own options, checked against `RuntimeInfo.compile_options`.
        metadata: metadata for the artifact, if its format supports it.
        model_bytes: size of all the source's files, on which the worker's memory limit depends.
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
    """Convert a source to the runtime's own files."""

    request: CompileRequest


class ReadMemory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="memory"):
    """Read the resident memory."""


class Close(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="close"):
    """Free the session and leave."""


Command = Open | TimeRuns | Calibrate | Invoke | TimePhases | ProfileRuns | Compile | ReadMemory | Close


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: int
    command: Command


class Opened(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="opened"):
    load_us: float
    memory: ResidentMemory
    signature: Signature
    notes: tuple[str, ...]


class Times(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="times"):
    """Wall and process CPU time of each inference, nanoseconds.

    `cpu_ns` is empty where the system does not report it. `error_ns` is the largest error of a wall time from the
    clock's resolution, where that is coarse. `missed` frames came before the inference of the one before ended.
    """

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]
    error_ns: float = 0.0
    missed: int = 0


class PhaseTimes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="phase-times"):
    """Nanoseconds of each sample: inputs to the runtime, inference, outputs from the runtime."""

    bind_ns: tuple[int, ...]
    run_ns: tuple[int, ...]
    fetch_ns: tuple[int, ...]


class ClockCalibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="calibration"):
    """The harness's own cost per sample, the clock's resolution, and the time of the fixed arithmetic."""

    wall_ns: float
    cpu_ns: float
    resolution_ns: float
    reference_us: float


class Compiled(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="compiled"):
    """The result of a compiler.

    Attributes:
        main: name of the file or folder for `open_session`, in the request's folder.
        io_map: all inputs and outputs of the source in the artifact.
        tools: versions of the used packages, by distribution.
        origins: source nodes by the name of the artifact's operator, if the two differ.
        notes: notes for the user.
        rounding_reference: name of an ONNX file in the folder, if the artifact's format rounds
            differently from the source; it is not a part of the artifact.
    """

    main: str
    io_map: IoMap
    tools: dict[str, str]
    origins: dict[str, tuple[str, ...]] = {}
    notes: tuple[str, ...] = ()
    rounding_reference: str = ""


class CommandDone(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="done"):
    """Success, with the resident memory at that moment."""

    memory: ResidentMemory


FailureKind = Literal["model", "input", "conversion", "missing", "memory", "limit", "room", "internal"]


class CommandFailed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="refused"):
    """The command failed and the worker continues.

    `kind` is `model` (the runtime's library rejected it), `input` (the feeds do not fit), `conversion` (a compiler
    cannot express the model), `missing` (a package is not installed), `memory` (an allocation failed), `limit` (the
    memory or time for one model does not suffice), `room` (the disk is full) or `internal`; `trace` is the traceback
    for the log, `hint` a remedy, if known.
    """

    kind: FailureKind
    why: str
    trace: str
    hint: str = ""


Greeting = Hello | CommandFailed
Result = Opened | Times | PhaseTimes | ClockCalibration | Compiled | CommandDone | CommandFailed


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: int
    result: Result
