"""Choice of the pages' language, which a cookie stores."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edgewright.locale.language import LANGUAGES
from edgewright.web.server.access import LANGUAGE_COOKIE, get_form

COOKIE_AGE_S = 365 * 86_400


def choose_language(request: Request) -> Response:
    """Set the cookie, and lead back to the page; an unknown language removes it, so that the browser's applies."""
    form = get_form(request)
    language, back = ((form.get(name) or [""])[0] for name in ("language", "back"))
    response = RedirectResponse(back if _is_own_address(back) else "/", 303)
    if language in LANGUAGES:
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=COOKIE_AGE_S, httponly=True, samesite="strict")
    else:
        response.delete_cookie(LANGUAGE_COOKIE)
    return response


def _is_own_address(address: str) -> bool:
    """Return whether an address is a path of this server; `//name` and `/\\name` are other servers."""
    return address[:1] == "/" and address[1:2] not in ("/", "\\") and address.isprintable()
