"""From a page's data to what is sent: HTML by a template, or the same as JSON at the address with `.json`."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from edgewright import __version__
from edgewright.errors import EdgewrightError, RunNotFound, StoreError, StoreLocked, UsageError
from edgewright.facts.run import OWN_TAGS
from edgewright.facts.text import printable
from edgewright.facts.units import show_share
from edgewright.web import numbers
from edgewright.web.assets import own_addresses
from edgewright.web.draw.charts import mini_bar
from edgewright.web.links import Links, ServerLinks
from edgewright.web.state import desk_of

SCHEMA = "edgewright.page/1"
MOST_FILE_NAME = 120
ATTACHED = "attachment; filename*=UTF-8''{}"
# A spreadsheet would run what begins so as a formula.
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@cache
def templates() -> Environment:
    """Every variable is escaped; one that is missing is an error."""
    found = Environment(
        loader=PackageLoader("edgewright.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=as_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"short": numbers.shorten, "moment": numbers.moment, "share": show_share, "show": numbers.show}
    found.filters |= {"own_tags": own_tags, "bar": mini_bar, "unit_of": numbers.unit_of}
    found.filters |= {"breakable": numbers.breakable, "unchanged": Unchanged}
    found.globals |= {
        "quantity": numbers.quantity,
        "bounds": numbers.bounds,
        "timed": numbers.timed,
        "plural": numbers.plural,
    }
    found.globals["accuracy_of"] = numbers.accuracy_of
    found.globals["own"] = own_addresses()
    return found


class Unchanged(str):
    """Text that comes back from a form, where a character that is replaced would make it another one."""

    __slots__ = ()


def as_shown(value: Any) -> Any:
    """Return what a template shows of a value: names from files may hold characters that do not show as themselves."""
    if not isinstance(value, str) or isinstance(value, Unchanged):
        return value
    return Markup(printable(value)) if isinstance(value, Markup) else printable(value)  # noqa: S704 - it was Markup


def own_tags(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """The user's own tags."""
    return [tag for tag in tags.items() if tag[0] not in OWN_TAGS]


def render(template: str, links: Links, context: Mapping[str, Any]) -> str:
    """A template's text for a server's page, or for a report, as `links` says."""
    return templates().get_template(template).render(link=links, version=__version__, **context)


def answer(
    request: Request, template: str, page: str, facts: Callable[[], Mapping[str, Any]], context: Mapping[str, Any]
) -> Response:
    """The page, or its twin. `facts` gives the twin's content and is called only for it."""
    if request.url.path.endswith(".json"):
        return json_answer({"schema": SCHEMA, "page": page, **facts()})
    desk = desk_of(request)
    shared = {"page": page, "csrf": desk.doors.csrf, "twin": twin_of(request)}
    return HTMLResponse(render(template, ServerLinks(), {**shared, **context}))


@contextmanager
def shown(*run_ids: str) -> Iterator[None]:
    """A block that shows runs: what fails for the values that they hold becomes a StoreError that says so."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        name = run_ids[0] if len(run_ids) == 1 else " or ".join(run_ids)
        raise StoreError(
            f"run {name} cannot be shown",
            f"its record holds values that no page can show ({type(error).__name__})",
            "edgewright runs show ID --json prints it as it is; delete the run if nobody needs it",
        ) from error


def wants_part(request: Request) -> bool:
    """Whether htmx asks for the part that it will exchange; going back in history it asks for the whole page."""
    headers = request.headers
    asks = "hx-request" in headers and "hx-history-restore-request" not in headers
    return asks and not request.url.path.endswith(".json")


def twin_of(request: Request) -> str:
    """The address of the page's JSON, with the same query."""
    path = request.url.path.rstrip("/")
    return f"{path}.json" + (f"?{request.url.query}" if request.url.query else "")


def json_answer(value: object, name: str = "") -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=attached(name))


def csv_answer(header: Sequence[str], rows: Iterable[Sequence[object]], name: str) -> Response:
    return Response(make_csv(header, rows), media_type="text/csv; charset=utf-8", headers=attached(name))


def make_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Texts that a spreadsheet would take for a formula get a quotation mark in front."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[plain_cell(cell) for cell in row] for row in rows])
    return out.getvalue()


def plain_cell(cell: object) -> object:
    if isinstance(cell, str) and cell.startswith(FORMULAS):
        return f"'{cell}"
    return "" if cell is None else cell


def attached(name: str) -> dict[str, str]:
    """Headers for a file that is to be saved under a name; none for an empty name."""
    return {"content-disposition": ATTACHED.format(file_name(name))} if name else {}


def file_name(name: str) -> str:
    """The name with nothing in it but letters, digits, `.`, `-` and `_`."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in ".-_") else "_" for letter in name)[
        -MOST_FILE_NAME:
    ]


def status_of(error: EdgewrightError) -> int:
    if isinstance(error, RunNotFound):
        return 404
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, StoreLocked):
        return 503
    return 500 if isinstance(error, StoreError) else 409


def error_answer(request: Request, error: EdgewrightError, status: int = 0) -> Response:
    """What, why, try this: as a page, or as JSON where JSON was asked for."""
    told = {"what": error.what, "why": error.why, "try_this": error.try_this}
    code = status or status_of(error)
    if request.url.path.endswith(".json"):
        body = msgspec.json.encode({"schema": SCHEMA, "page": "error", "error": told})
        return Response(body, code, media_type="application/json")
    desk = desk_of(request)
    context = {"page": "error", "csrf": desk.doors.csrf, "twin": "", "status": code, **told}
    return HTMLResponse(render("error.html", ServerLinks(), context), code)
