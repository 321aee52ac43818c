"""Addresses of links: on the server, in a folder of static pages, or in a single file without links."""

from typing import Protocol
from urllib.parse import quote, urlencode


class Links(Protocol):
    """Addresses for the templates; text without an address is not a link. `live` is true on a server."""

    live: bool
    inline: bool

    def run(self, run_id: str) -> str: ...
    def model(self, model_id: str | None) -> str: ...
    def page(self, name: str) -> str: ...


class ServerLinks:
    """Links of the server's pages."""

    live, inline = True, False

    def run(self, run_id: str) -> str:
        return f"/runs/{quote(run_id, safe='')}"

    def model(self, model_id: str | None) -> str:
        return f"/models/{quote(model_id, safe='')}" if model_id else ""

    def page(self, name: str) -> str:
        return f"/{name}"


class StaticSiteLinks:
    """Links within a folder of static pages."""

    live, inline = False, False

    def __init__(self, run_ids: frozenset[str]) -> None:
        self._run_ids = run_ids

    def run(self, run_id: str) -> str:
        return f"run-{run_id}.html" if run_id in self._run_ids else ""

    def model(self, model_id: str | None) -> str:
        return "models.html" if model_id else ""

    def page(self, name: str) -> str:
        return {"runs": "index.html", "activity": "index.html"}.get(name, f"{name}.html")


class SingleFileLinks:
    """Links of a single file, which has none."""

    live, inline = False, True

    def run(self, run_id: str) -> str:
        return ""

    def model(self, model_id: str | None) -> str:
        return ""

    def page(self, name: str) -> str:
        return ""


def add_query(path: str, fields: list[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(fields)}" if fields else path
