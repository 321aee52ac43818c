"""Saved views of the list of runs: a name and the filter, order and columns of an address, in a file of the home."""

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from edgewright.errors import UsageError
from edgewright.store.store import Store
from edgewright.system.files import replace_atomically
from edgewright.web.pages.filters import parse_list_state
from edgewright.web.server.access import get_form
from edgewright.web.server.state import get_app_state

FILE = "ui-views.json"
MAX_VIEWS, MAX_LETTERS = 50, 80


class SavedView(Struct, frozen=True, kw_only=True):
    """A named address of the list of runs."""

    name: str
    address: str


def load_views(store: Store) -> list[SavedView]:
    """Return the saved views; none if the file is missing or damaged."""
    try:
        return msgspec.json.decode((store.home / FILE).read_bytes(), type=list[SavedView])
    except (OSError, msgspec.MsgspecError):
        return []


def _write_views(store: Store, views: list[SavedView]) -> None:
    with replace_atomically(store.home / FILE) as part:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(views), indent=1))


def save_view(request: Request) -> Response:
    """Save the state of the list under a name, or remove a view; redirect to the list."""
    form, store = get_form(request), get_app_state(request).store
    state = parse_list_state({name[3:]: words[0] for name, words in form.items() if name.startswith("at.") and words})
    address, known = state.address(), load_views(store)
    if removed := (form.get("remove") or [""])[0]:
        _write_views(store, [one for one in known if one.name != removed])
        return RedirectResponse(address, 303)
    name = (form.get("name") or [""])[0].strip()[:MAX_LETTERS]
    if not name:
        raise UsageError("the view has no name", "a saved view is chosen by its name", "enter a name")
    others = [one for one in known if one.name != name][: MAX_VIEWS - 1]
    _write_views(store, [SavedView(name=name, address=address), *others])
    return RedirectResponse(address, 303)
