"""Messages between the server and the page /device, over a WebSocket; files from the page follow as binary messages.

Requests and answers of workers are those of `runtimes/wire.py`. Nothing that a page sends is trusted: types and sizes
are bounded, and a message outside of the protocol ends the session.
"""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from edgewright.devices.browser.facts import PageFacts
from edgewright.runtimes import wire

MAX_FILES = 4
MAX_OUTPUT_BYTES = 1 << 30
Word = Annotated[str, Meta(min_length=1, max_length=128)]


class PairPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pair"):
    code: Word
    facts: PageFacts


class ResumePage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="resume"):
    """The page was paired before, as the device `name`."""

    name: Word
    token: Word
    facts: PageFacts


class PageState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="state"):
    visible: bool
    awake: bool
    battery: Annotated[float, Meta(ge=0, le=1)] | None
    charging: bool | None


class PageGreeting(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="greeting"):
    worker: Word
    greeting: wire.Greeting


class FileHead(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=64, pattern=r"^[a-z]*(\.json)?$")]
    bytes: Annotated[int, Meta(ge=0, le=MAX_OUTPUT_BYTES)]


class PageAnswer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="answer"):
    """An answer; the contents of `files` follow in this order."""

    worker: Word
    answer: wire.Answer
    files: Annotated[tuple[FileHead, ...], Meta(max_length=MAX_FILES)] = ()


class WorkerFailed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="failed"):
    worker: Word
    why: Annotated[str, Meta(max_length=2000)]


FirstMessage = PairPage | ResumePage
PageMessage = PageState | PageGreeting | PageAnswer | WorkerFailed


class SessionBegins(Struct, frozen=True, kw_only=True, tag="paired"):
    """`files` is the address of the folder with the runtimes."""

    name: str
    token: str
    files: str


class BeginWorker(Struct, frozen=True, kw_only=True, tag="start"):
    worker: str
    runtime: str


class FileOffer(Struct, frozen=True, kw_only=True):
    """A file that the page can load."""

    name: str
    url: str
    bytes: int


class OfferedFiles(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The files of a request."""

    model: FileOffer | None = None
    feeds: FileOffer | None = None
    beside: Sequence[FileOffer] = ()


class AskWorker(Struct, frozen=True, kw_only=True, tag="ask"):
    worker: str
    request: wire.Request
    files: OfferedFiles


class EndWorker(Struct, frozen=True, kw_only=True, tag="end"):
    worker: str


ServerMessage = SessionBegins | BeginWorker | AskWorker | EndWorker
