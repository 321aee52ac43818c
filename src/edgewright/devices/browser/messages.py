"""Messages between a command and the server that holds the browsers: JSON, one message per line, over loopback.

A connection begins with `ServiceRequest`. Its action determines what follows:

- `OfferCode`: `Offer` at once, then `Paired`; the end of the connection revokes the code.
- `ListBrowsers`: `Browsers`.
- `Lease`: `Leased`, then a `Pushed` for each `Push`; its files and workers exist until the connection ends.
- `StartWorker`: `Started`, then the messages of `runtimes/wire.py`; the end of the connection ends the worker.
- `Forget`: `Browsers` without it.

In place of any answer an `ActionFailed` can come.
"""

from typing import Any

from msgspec import Struct

from edgewright.schema.devices import DeviceState


class OfferCode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pair"):
    """Create a one-time code, with which a browser becomes the device `name`."""

    name: str


class ListBrowsers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="list"):
    """Report the browsers that are connected."""


class Lease(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="lease"):
    """Use a browser; what its workers write goes to files in `folder`, or below it."""

    name: str
    folder: str


class StartWorker(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="worker"):
    """Start a worker in the browser of a lease. If it fails, the browser's message goes to the file `log`."""

    lease: str
    runtime: str
    log: str


class Forget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="forget"):
    """Disconnect a browser; its page has to be paired again."""

    name: str


class ServiceRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line of a connection; `token` is that of the server's file (`service.py`)."""

    token: str
    action: OfferCode | ListBrowsers | Lease | StartWorker | Forget


class Push(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Make a file of this machine available to the browser, with the files `beside` it by their relative names."""

    path: str
    sha256: str
    beside: dict[str, str] = {}


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="offer"):
    """The page's address, with which the code is entered by itself, and the code.

    `fingerprint` is the sha256 of the server's certificate; empty without TLS.
    """

    url: str
    code: str
    fingerprint: str = ""


class Paired(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="paired"):
    """A browser was paired. `token_sha256` is the hash of the secret with which it connects again."""

    facts: dict[str, Any]
    token_sha256: str


class Browser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A browser as the server sees it.

    Attributes:
        why: the reason of the last disconnection, if it is offline.
        health: values that its page reports: `visible`, `awake`, `battery` (0 to 1), `charging`; None if unknown.
    """

    name: str
    state: DeviceState
    why: str = ""
    facts: dict[str, Any] = {}
    health: dict[str, bool | float | None] = {}


class Browsers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="browsers"):
    browsers: tuple[Browser, ...]


class Leased(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="leased"):
    lease: str
    facts: dict[str, Any]


class Pushed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pushed"):
    """The name of a pushed file in the commands to workers."""

    remote: str


class Started(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="started"):
    """The worker starts; its greeting is next."""


class ActionFailed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="failed"):
    """The action failed; `state` is the browser's."""

    state: DeviceState
    why: str


Reply = Offer | Paired | Browsers | Leased | Pushed | Started | ActionFailed
