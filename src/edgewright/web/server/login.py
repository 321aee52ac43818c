"""Login with the key of a server that other machines can reach: shown once, stored as a hash, sent in a cookie."""

import secrets
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edgewright.store.failures import translate_errors
from edgewright.web.server.access import COOKIE, get_form
from edgewright.web.server.responses import make_page_response
from edgewright.web.server.state import get_app_state

KEY_FILE = "ui-key.sha256"
COOKIE_AGE_S = 30 * 86_400


def load_key(home: Path, *, renew: bool = False) -> tuple[str, str]:
    """Return the key's hash, and the key itself if it is new, else an empty text. Raises StoreError."""
    path = home / KEY_FILE
    with translate_errors("the key cannot be stored", str(path)):
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
    return make_page_response(request, "login.html", "login", dict, {"wrong": "wrong" in request.query_params})


def log_in(request: Request) -> Response:
    """Set the cookie if the key is correct."""
    key = (get_form(request).get("key") or [""])[0].strip()
    if not get_app_state(request).access_rules.accepts_key(key):
        return RedirectResponse("/login?wrong", 303)
    entered = RedirectResponse("/runs", 303)
    entered.set_cookie(COOKIE, key, max_age=COOKIE_AGE_S, httponly=True, samesite="strict")
    return entered
