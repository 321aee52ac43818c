"""Access rules of the server, and the security headers of its responses.

- **Host.** Another site can resolve its own name to 127.0.0.1 (DNS rebinding), so the `Host` header must be known.
- **Origin and token.** A request that changes something must come from the server's own pages: `Origin` and
  `Sec-Fetch-Site` are checked, and the form contains a CSRF token.
- **Key.** If the server is bound to anything but loopback, every request needs the key, in a cookie set by `/login`.
- **Responses** have a Content-Security-Policy without inline scripts and styles, and cannot be framed or embedded.
"""

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewright.locale.language import LANGUAGES, choose_language, use_language

COOKIE = "edgewright-key"
LANGUAGE_COOKIE = "edgewright-language"
FORM_TYPE, BINARY_TYPE = "application/x-www-form-urlencoded", "application/octet-stream"
MAX_FORM_BYTES = 1 << 20
MAX_FIELDS = 20_000
PUBLIC_PATHS = ("/login", "/language", "/static/", "/device/")  # pages of devices have codes and tokens of their own
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # `no-referrer` would also remove the Origin of the server's own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), usb=(), payment=()",
}
INCOMPLETE_REQUEST = "The connection closed before the end of the request. Nothing was changed."
UNKNOWN_HOST = "Unknown host name. Use localhost or an IP address."


@dataclass(frozen=True)
class AccessRules:
    """Rules for accepting requests. `key_hash` is the sha256 of the key in hex; empty if no key is needed."""

    loopback: bool = True
    names: tuple[str, ...] = ()
    key_hash: str = ""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def is_known_host(self, host: str) -> bool:
        """Return whether a `Host` is accepted: localhost, an IP address, or a configured name of this machine."""
        name = parse_host_name(host)
        if name == "localhost" or name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback

    def accepts_key(self, key: str) -> bool:
        return not self.key_hash or secrets.compare_digest(sha256(key.encode()).hexdigest(), self.key_hash)


def parse_host_name(host: str) -> str:
    """Return the host name of a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


class AccessMiddleware:
    """Outermost layer: rejects a request, or reads its form, forwards it and adds the security headers."""

    def __init__(self, app: ASGIApp, access_rules: AccessRules) -> None:
        self._app, self._access_rules = app, access_rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        rejection, receive = await self._reject(scope, receive)
        with use_language(_choose_request_language(Request(scope))):
            await (rejection or self._app)(scope, receive, _add_security_headers(send))

    async def _reject(self, scope: Scope, receive: Receive) -> tuple[Response | None, Receive]:
        headers = Headers(scope=scope)
        if not self._access_rules.is_known_host(headers.get("host", "")):
            return PlainTextResponse(UNKNOWN_HOST, 421), receive
        request = Request(scope)
        if not self._access_rules.accepts_key(request.cookies.get(COOKIE, "")) and not scope["path"].startswith(
            PUBLIC_PATHS
        ):
            reads_page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
            answer = RedirectResponse("/login", 303) if reads_page else PlainTextResponse("The key is missing.", 401)
            return answer, receive
        if scope["method"] in ("GET", "HEAD"):
            return None, receive
        return await self._reject_change(scope, headers, receive)

    async def _reject_change(self, scope: Scope, headers: Headers, receive: Receive) -> tuple[Response | None, Receive]:
        if scope["method"] != "POST":
            return PlainTextResponse("Only GET, HEAD and POST are supported.", 405), receive
        if not is_same_origin(headers):
            return PlainTextResponse("The request comes from another site.", 403), receive
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        token = headers.get("x-csrf-token", "")
        if kind == FORM_TYPE:
            try:
                body = await _read_body(receive)
            except ClientDisconnect:
                return PlainTextResponse(INCOMPLETE_REQUEST, 400), receive
            if body is None:
                return PlainTextResponse("The form is too large.", 413), receive
            try:
                form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
            except ValueError:
                return PlainTextResponse("The form cannot be read.", 400), receive
            scope.setdefault("state", {})["form"] = form
            token = token or form.get("csrf", [""])[0]
        elif kind != BINARY_TYPE:
            return PlainTextResponse("The request must contain a form or a file.", 415), receive
        if not secrets.compare_digest(token.encode(), self._access_rules.csrf.encode()):
            return PlainTextResponse("The page was loaded before the server was restarted. Reload it.", 403), receive
        return None, receive


def _choose_request_language(request: Request) -> str:
    """Return the language of the cookie, else the one that the browser prefers."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    return chosen if chosen in LANGUAGES else choose_language(request.headers.get("accept-language", ""))


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Return whether the request comes from the server's own pages; clients other than browsers send neither header."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    try:
        return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:  # not a valid URL
        return False


async def _read_body(receive: Receive) -> bytes | None:
    """Return the whole body, or None if it is over the limit; raise ClientDisconnect if it is incomplete."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        body += bytes(message.get("body", b""))
        if len(body) > MAX_FORM_BYTES:
            return None
        if not message.get("more_body", False):
            return body


def _add_security_headers(send: Send) -> Send:
    """Add the security headers to every response; the browser caches only static files."""

    async def send_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return send_on


def get_form(request: Request) -> Mapping[str, list[str]]:
    """Return the fields of a form that the middleware accepted."""
    found: Mapping[str, list[str]] = getattr(request.state, "form", {})
    return found
