"""The words that parent and worker say to each other: JSON lines, one message a line.

The worker greets with `Hello`. After that each `Request` is answered by one `Answer` with the same id, in
order. Tensors are never on the wire: they travel as `.npz` files, named by path.
"""

from typing import Literal

from msgspec import Struct

from edgewright.facts.model import Signature

PROTOCOL = 1


class Memory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resident memory of the worker in bytes, now and at its peak; None where the system does not tell."""

    rss: int | None
    peak: int | None


class Hello(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hello"):
    """The worker's first line, once the runtime's library is imported (`Refused` where it cannot be)."""

    protocol: int
    runtime: str
    version: str
    pid: int
    python: str
    import_us: float
    memory: Memory


class SessionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `open_session` is asked for.

    Attributes:
        model: path of the model file on the machine of the worker.
        threads: threads for one inference.
        options: the runtime's own options, already known to be among `RuntimeInfo.options`.
        shapes: sizes for the inputs whose shape is free.
    """

    model: str
    threads: int = 1
    options: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}


class Open(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="open"):
    """Load a model and bind its inputs, which lie in the file `feeds`."""

    session: SessionRequest
    feeds: str


class RunTimes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="run"):
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
    """Run once on the arrays in `feeds` and write the outputs to `outputs`, both `.npz`.

    With `stacked` each array has one more leading axis, and the model runs once for each entry of it.
    """

    feeds: str
    outputs: str
    stacked: bool = False


class Profile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="profile"):
    """Profile `runs` inferences and leave the trace in `folder`."""

    session: SessionRequest
    feeds: str
    runs: int
    folder: str


class MemoryNow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="memory"):
    """Tell the resident memory."""


class Close(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="close"):
    """Free the session and leave."""


Command = Open | RunTimes | Calibrate | Invoke | Profile | MemoryNow | Close


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: int
    command: Command


class Opened(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="opened"):
    load_us: float
    memory: Memory
    signature: Signature
    notes: tuple[str, ...]


class Times(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="times"):
    """Wall and process CPU time of each inference, nanoseconds."""

    wall_ns: tuple[int, ...]
    cpu_ns: tuple[int, ...]


class Calibration(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="calibration"):
    """The harness's own cost per sample, the clock's smallest step, and the time of the fixed arithmetic."""

    wall_ns: float
    cpu_ns: float
    resolution_ns: float
    reference_us: float


class Told(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="told"):
    """Done; the memory at that moment."""

    memory: Memory


class Refused(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="refused"):
    """The command failed and the worker lives on.

    `kind` is `model` (the runtime's library refused), `input` (the feeds do not fit), `missing` (a package
    is not installed), `memory` (an allocation failed) or `internal`; `trace` is the traceback for the log.
    """

    kind: Literal["model", "input", "missing", "memory", "internal"]
    why: str
    trace: str


Greeting = Hello | Refused
Result = Opened | Times | Calibration | Told | Refused


class Answer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: int
    result: Result
