"""Times of a model's nodes on one side of a network: on this machine or a device, or on a server that allows it."""

from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from edgewright.api.measure import benchmark
from edgewright.errors import DataError, DeviceUnreachable, UsageError
from edgewright.system.temporary import TemporaryFolder

PROFILE_SCHEMA = "edgewright.profile/1"
PROFILE_PATH = "/edgewright/profile"
LARGEST_REPLY = 50_000_000
TIMEOUT_S = 600.0


class SideProfile(Struct, frozen=True, kw_only=True):
    """What one side needs for a model.

    Attributes:
        p50_us: median of whole inferences, in microseconds.
        layers: the source nodes of each layer, and its median in microseconds while the runtime profiles.
    """

    schema: str = PROFILE_SCHEMA
    side: str
    runtime: str
    threads: int
    p50_us: float
    layers: tuple[tuple[tuple[str, ...], float], ...]

    def time_nodes(self) -> dict[str, float]:
        """Return the milliseconds of the first node of each layer, scaled so that they add up to a whole inference."""
        found: dict[str, float] = {}
        for nodes, median_us in self.layers:
            if nodes:
                found[nodes[0]] = found.get(nodes[0], 0.0) + median_us
        whole = sum(found.values())
        return {name: one / whole * self.p50_us / 1e3 for name, one in found.items()} if whole else {}


class ProfileRequest(Struct, frozen=True, kw_only=True):
    """How a model is measured on a side."""

    runtime: str = "onnxruntime"
    threads: int = 1
    processes: int = 3
    seconds: float = 0.3


def profile_here(model: Path, request: ProfileRequest, side: str, **call: Any) -> SideProfile:
    """Measure a model on this machine or one of the user's devices. Raises the errors of `benchmark`."""
    options: dict[str, Any] = {"on": side} if side != "local" else {}
    if request.runtime != "onnxruntime":
        options["precision"] = "fp32"
    result = benchmark(
        str(model),
        runtime=request.runtime,
        threads=request.threads,
        processes=request.processes,
        seconds=request.seconds,
        layers=True,
        **options,
        **call,
    )
    row = result.rows[0]
    if not row.layers or row.latency_us is None or row.latency_us.p50 is None:
        raise DataError(
            f"{request.runtime} on {side} reports no times of its layers",
            "a split is planned from them",
            "choose a runtime with a profiler: onnxruntime or litert",
        )
    layers = tuple((tuple(one.source_nodes), float(one.median_us)) for one in row.layers)
    return SideProfile(
        side=side, runtime=request.runtime, threads=request.threads, p50_us=row.latency_us.p50, layers=layers
    )


def profile_bytes(content: bytes, query: Mapping[str, str]) -> bytes:
    """Measure a model that came over the network, and return the profile as JSON: the server's side of `ask_profile`.

    Raises UsageError for a query that does not fit, and the errors of `benchmark`.
    """
    try:
        request = msgspec.convert(dict(query), ProfileRequest, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError("the query is not usable", str(error), "runtime, threads, processes, seconds") from None
    if not (0 < request.processes <= 20 and 0 < request.seconds <= 10 and 0 < request.threads <= 64):
        raise UsageError("the query is not usable", "a number is too large", "at most 20 processes of 10 s")
    folder = TemporaryFolder()
    try:
        path = folder.path / "model.onnx"
        path.write_bytes(content)
        return msgspec.json.encode(profile_here(path, request, "local"))
    finally:
        folder.close()


def ask_profile(model: Path, request: ProfileRequest, url: str, token: str = "") -> SideProfile:
    """Let a server that was started with --allow-profile measure a model.

    Raises UsageError for an address that is none or a server that refuses, DeviceUnreachable if there is no answer.
    """
    address = urlsplit(url)
    try:
        is_usable = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or address.hostname is None:
        raise UsageError(f"{url} is not the address of a server", "it starts with http:// or https://", url)
    headers = {"Content-Type": "application/octet-stream"} | ({"Authorization": f"Bearer {token}"} if token else {})
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    place = f"{address.path.rstrip('/')}{PROFILE_PATH}?{urlencode(msgspec.to_builtins(request))}"
    try:
        with closing(kind(address.hostname, address.port, timeout=TIMEOUT_S)) as connection:
            connection.request("POST", place, model.read_bytes(), headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read(LARGEST_REPLY)
    except (OSError, HTTPException, ValueError) as error:
        hint = f"start it: edgewright serve MODEL --allow-profile --port {address.port or 8500}"
        raise DeviceUnreachable(f"{url} does not answer", str(error) or type(error).__name__, hint) from None
    if status != 200:
        raise _make_refusal(url, status, content)
    try:
        profile = msgspec.json.decode(content, type=SideProfile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DeviceUnreachable(f"the answer of {url} is no profile", str(error), "check the address") from None
    if not all(isfinite(one) and one >= 0 for one in (profile.p50_us, *(us for _, us in profile.layers))):
        raise DeviceUnreachable(f"the answer of {url} is no profile", "a time in it is negative", "check the address")
    return msgspec.structs.replace(profile, side=url)


def _make_refusal(url: str, status: int, content: bytes) -> UsageError:
    try:
        why = str(msgspec.json.decode(content)["error"])[:500]
    except (msgspec.MsgspecError, KeyError, TypeError):
        why = f"its HTTP status is {status}"
    hints = {
        401: "give the server's token: --token-file FILE",
        403: "start the server with --allow-profile",
        404: "start a server of this version with --allow-profile",
        413: "start the server with a larger --max-body-bytes",
    }
    return UsageError(f"{url} does not measure the model", why, hints.get(status, "see the server's messages"))
