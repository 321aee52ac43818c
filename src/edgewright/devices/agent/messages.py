"""Messages between a command and an agent: JSON, one message per line, over TCP or TLS.

The agent begins a connection with `Challenge`, and the command answers with `Enter`. Then comes `Welcome`, or
`AgentFailed`, after which the agent closes. What follows depends on the action:

- `pair`: nothing; `Welcome.token` is the secret of later connections.
- `control`: `ControlRequest`s, each answered by one `ControlReply`; `Put` and `Content` are followed by so many bytes.
  The folder `Welcome.work` exists until the connection ends.
- `worker`: the messages of `runtimes/wire.py` of one fresh worker, whose paths are relative to the agent's folder. If
  its process ends by itself, `WorkerEnded` follows. The end of the connection ends the worker.

Both sides prove that they know the secret, which is the code for `pair` and the token otherwise, and send it only once,
from the agent in `Welcome`: see `make_proof`. Nothing that an agent sends is trusted: types and sizes are bounded.
"""

import hmac
from typing import Annotated, Literal

from msgspec import Meta, Struct

from edgewright.schema.devices import DeviceState

AGENT_PROTOCOL = 1
MAX_FILES = 1024
MAX_FILE_BYTES = 1 << 31
Word = Annotated[str, Meta(max_length=128)]
Text = Annotated[str, Meta(max_length=300)]
Action = Literal["pair", "control", "worker"]


def make_proof(secret: str, nonce: str, fingerprint: str, about: str) -> str:
    """Return the HMAC-SHA256 that only one who knows the secret can compute.

    Args:
        nonce: chosen by the other side for this connection.
        fingerprint: sha256 of the agent's certificate; empty without TLS. A relay with another certificate fails.
        about: the action, or `welcome` for the agent's.
    """
    return hmac.digest(secret.encode(), f"{about} {nonce} {fingerprint}".encode(), "sha256").hex()


class Challenge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="challenge"):
    agent: int
    nonce: Word


class Enter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="enter"):
    """`runtime` is that of a worker."""

    action: Action
    nonce: str
    proof: str
    runtime: str = ""


class Welcome(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="welcome"):
    proof: Word
    token: Word = ""
    work: Word = ""


class AgentFailed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="failed"):
    state: DeviceState
    why: Annotated[str, Meta(max_length=2000)]


class ReadStatus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="status"):
    """Report facts and state: `AgentStatus`."""


class FindFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="find"):
    """List the file, or the files of the folder: `Found`."""

    path: str


class Put(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="put"):
    """Write a file, complete or not at all: `Done`."""

    path: str
    bytes: int


class Get(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="get"):
    """Send a file: `Content`."""

    path: str


class ForgetUs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="forget"):
    """Remove all files, and the token: `Done`."""


ControlRequest = ReadStatus | FindFile | Put | Get | ForgetUs


class AgentFacts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What does not change while the agent runs; an empty text is unknown.

    Attributes:
        id: random, chosen when the agent first started.
        app: version of the agent.
        machine: architecture, such as `aarch64`.
        memory: bytes.
        runtimes: versions of its engines by the names of `runtimes/table.py`.
        units: what its engines can be asked for, such as `litert.delegate=gpu`.
    """

    id: Word
    app: Word
    model: Text
    soc: Text
    machine: Word
    system: Word
    os: Text
    build: Text
    kernel: Text
    gpu: Text
    cores: Annotated[int, Meta(ge=1, le=4096)]
    memory: Annotated[int, Meta(ge=1 << 20, le=1 << 50)]
    runtimes: Annotated[dict[Word, Word], Meta(max_length=16)]
    units: Annotated[tuple[Word, ...], Meta(max_length=64)] = ()


class AgentState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes; None if the system does not report it.

    Attributes:
        battery: charge from 0 to 1.
        thermal_status: Android's, from 0 (none) to 6 (shutdown).
        thermal_headroom: Android's forecast for 10 s; 1 is severe throttling.
        power_uw: drawn from the battery; None while it charges.
        source: the sensor of power, or why there is none.
    """

    battery: Annotated[float, Meta(ge=0, le=1)] | None
    charging: bool | None
    saver: bool | None
    visible: bool | None
    thermal_status: Annotated[int, Meta(ge=0, le=6)] | None
    thermal_headroom: Annotated[float, Meta(ge=0, le=100)] | None
    temperature_c: Annotated[float, Meta(ge=-50, le=150)] | None
    frequency_khz: Annotated[float, Meta(ge=0, le=1e8)] | None
    power_uw: Annotated[int, Meta(ge=0, le=200_000_000)] | None
    memory_available_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] | None
    source: Annotated[str, Meta(min_length=1, max_length=300)]


class AgentStatus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="status"):
    facts: AgentFacts
    state: AgentState


class AgentFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`name` is relative to the asked folder, empty for the asked file itself."""

    name: Annotated[str, Meta(max_length=1000)]
    bytes: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]


class Found(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="found"):
    """`kind` is `none` for a path that does not exist."""

    kind: Literal["file", "folder", "none"]
    files: Annotated[tuple[AgentFile, ...], Meta(max_length=MAX_FILES)]


class Done(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="done"):
    pass


class Content(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="content"):
    bytes: Annotated[int, Meta(ge=0, le=MAX_FILE_BYTES)]


class WorkerEnded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ended"):
    """The worker's process ended; `tail` is the end of what it wrote to its log."""

    code: Annotated[int, Meta(ge=-255, le=255)]
    tail: Annotated[str, Meta(max_length=8192)]


ControlReply = AgentStatus | Found | Done | Content | AgentFailed
EnterReply = Welcome | AgentFailed
