"""The key of a server that answers beyond its own machine: shown once, kept as a hash, carried in a cookie."""

import secrets
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edgewright.store.failures import told
from edgewright.web.answers import answer
from edgewright.web.guard import COOKIE, form_of
from edgewright.web.state import desk_of

FILE = "ui-key.sha256"
AGE_S = 30 * 86_400


def load_key(home: Path, *, renew: bool = False) -> tuple[str, str]:
    """The key's hash, and the key itself where it was made just now, else an empty text. Raises StoreError."""
    path = home / FILE
    with told("the key cannot be kept", str(path)):
        known = path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""
        if len(known) == 64 and not renew:
            return known, ""
        key = secrets.token_urlsafe(24)
        digest = sha256(key.encode()).hexdigest()
        path.unlink(missing_ok=True)
        path.touch(0o600)
        path.write_text(digest, encoding="ascii")
    return digest, key


def login_page(request: Request) -> Response:
    return answer(request, "login.html", "login", dict, {"wrong": "wrong" in request.query_params})


def log_in(request: Request) -> Response:
    """Set the cookie where the key is right."""
    key = (form_of(request).get("key") or [""])[0].strip()
    if not desk_of(request).doors.opens(key):
        return RedirectResponse("/login?wrong", 303)
    entered = RedirectResponse("/runs", 303)
    entered.set_cookie(COOKIE, key, max_age=AGE_S, httponly=True, samesite="strict")
    return entered
