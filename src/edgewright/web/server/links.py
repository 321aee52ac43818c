"""Where a name leads: in the running pages, in a folder of static ones, or nowhere in a single file."""

from typing import Protocol
from urllib.parse import quote, urlencode


class Links(Protocol):
    """Addresses for the templates; an empty one is shown as text alone. `live` tells whether a server is behind."""

    live: bool
    inline: bool

    def run(self, run_id: str) -> str: ...
    def model(self, model_id: str | None) -> str: ...
    def page(self, name: str) -> str: ...


class ServerLinks:
    """The running pages."""

    live, inline = True, False

    def run(self, run_id: str) -> str:
        return f"/runs/{quote(run_id, safe='')}"

    def model(self, model_id: str | None) -> str:
        return f"/models/{quote(model_id, safe='')}" if model_id else ""

    def page(self, name: str) -> str:
        return f"/{name}"


class StaticSiteLinks:
    """A folder of static pages: only those that are in it."""

    live, inline = False, False

    def __init__(self, run_ids: frozenset[str]) -> None:
        self._run_ids = run_ids

    def run(self, run_id: str) -> str:
        return f"run-{run_id}.html" if run_id in self._run_ids else ""

    def model(self, model_id: str | None) -> str:
        return "models.html" if model_id else ""

    def page(self, name: str) -> str:
        return {"runs": "index.html"}.get(name, f"{name}.html")


class SingleFileLinks:
    """One file that stands alone."""

    live, inline = False, True

    def run(self, run_id: str) -> str:
        return ""

    def model(self, model_id: str | None) -> str:
        return ""

    def page(self, name: str) -> str:
        return ""


def add_query(path: str, fields: list[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(fields)}" if fields else path
