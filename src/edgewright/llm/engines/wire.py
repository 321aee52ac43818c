"""Messages between a command and the worker of an engine: one JSON object per line."""

from typing import Literal

from msgspec import Struct

KV_PRECISIONS = ("fp32", "fp16", "kv8", "kv4")


class OpenEngine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="open"):
    """Load an artifact.

    Attributes:
        folder: of the artifact.
        main: its main file in it, or "." for the folder.
        kv: precision of the KV cache, one of `KV_PRECISIONS`; empty for the engine's default.
    """

    folder: str
    main: str
    kv: str = ""
    threads: int = 1


class ComputeLogits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="logits"):
    """Write the logits after each token into the tensor file `path`, as `logits` float32 [tokens, vocabulary]."""

    tokens: tuple[int, ...]
    path: str


class Generate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="generate"):
    """Write tokens after a prompt.

    Attributes:
        tokens: the prompt, one token or more.
        count: most tokens to be written.
        stop: tokens that end it; the one that ended it is the last of the result.
        temperature: 0 for the most likely token each time.
        reuse: whether the KV cache of a common beginning with the last prompt is used again, where the engine can.
        stream: whether each token is a message of its own. A measurement is without them.
    """

    tokens: tuple[int, ...]
    count: int
    stop: tuple[int, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    reuse: bool = False
    stream: bool = True


class StopGenerating(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="stop"):
    """End the current generation after its next token. It has no answer of its own."""


class ReadEngineMemory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="memory"):
    """Return the memory of the process."""


EngineCommand = OpenEngine | ComputeLogits | Generate | StopGenerating | ReadEngineMemory


class EngineOpened(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="opened"):
    """The artifact is loaded.

    Attributes:
        kv: precision of the KV cache that is in use.
        context: longest sequence in tokens.
    """

    kv: str
    context: int
    load_us: float


class LogitsWritten(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="logits"):
    """The tensor file is written."""

    us: float


class TokenWritten(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="token"):
    """One token of a generation."""

    token: int


class Generation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="generated"):
    """A finished generation.

    Attributes:
        times_us: time of each token since the request began; the first includes the prompt.
        cpu_us: CPU time of the process for all of it.
        reused: tokens of the prompt that were in the KV cache already.
        end: why it ended: `count` tokens, a `stop` token, the `context` is full, or it was `stopped`.
    """

    tokens: tuple[int, ...]
    times_us: tuple[float, ...]
    cpu_us: float
    reused: int
    end: Literal["count", "stop", "context", "stopped"]


class EngineMemory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="memory"):
    """Resident memory of the worker in bytes, now and at most; None where the system does not say."""

    resident: int | None
    peak: int | None


class EngineFailed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="failed"):
    """A command failed. `missing`: the engine's packages are not installed."""

    kind: Literal["missing", "model", "input", "memory", "engine"]
    why: str


EngineAnswer = (
    EngineOpened | LogitsWritten | TokenWritten | Generation | EngineMemory | EngineFailed
)  # fmt: skip
