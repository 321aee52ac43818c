"""Addresses of boards: `ssh://[USER@]HOST[:PORT]`, where HOST may be an alias of ~/.ssh/config."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from edgewright.errors import UsageError

HINT = "write it like ssh://USER@HOST:PORT"
_WORD = re.compile(r"[A-Za-z0-9][\w.:%-]*")  # no option of a program and nothing that a shell interprets


class SshAddress(NamedTuple):
    """Parts of an address; empty or None where the configuration of ssh decides."""

    host: str
    user: str
    port: int | None


def parse_address(address: str) -> SshAddress:
    """Return the parts of an address. Raises UsageError."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"the address {address[:80]!r} cannot be used", str(error), HINT) from None
    if parts.password is not None:
        raise UsageError(
            "the address contains a password", "devices store no secrets", "use a key: --key FILE, or the agent of ssh"
        )
    host, user = parts.hostname or "", parts.username or ""
    is_plain = _WORD.fullmatch(host) and (not user or _WORD.fullmatch(user)) and port != 0
    if not is_plain or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"the address {address[:80]!r} cannot be used", "it is not ssh://USER@HOST:PORT", HINT)
    return SshAddress(host, user, port)


def check_address(address: str) -> str:
    """Return the address without a trailing slash. Raises UsageError, also for one with a password."""
    parse_address(address)
    return address.rstrip("/")
