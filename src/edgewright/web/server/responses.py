"""Responses: a page as HTML from a template, or its data as JSON at the JSON address."""

import csv
import io
import re
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
from edgewright.locale.catalog import load_catalog
from edgewright.locale.language import ENGLISH, LANGUAGES, get_language, translate
from edgewright.report import numbers
from edgewright.report.charts.run import draw_mini_bar
from edgewright.report.outcome import name_state
from edgewright.schema.run import RESERVED_TAGS
from edgewright.schema.text import printable
from edgewright.schema.units import show_share
from edgewright.web.server.assets import list_own_addresses
from edgewright.web.server.links import Links, ServerLinks
from edgewright.web.server.state import get_app_state
from edgewright.web.server.translation import make_translation

SCHEMA = "edgewright.page/1"
MAX_FILE_NAME = 120
ATTACHMENT_HEADER = "attachment; filename*=UTF-8''{}"
_SECTION = re.compile(r'<section\b[^>]*?\bid="([\w-]+)"[^>]*>\s*<div class="head"><h2>(.*?)</h2>')
# A spreadsheet evaluates text with these prefixes as a formula.
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


@cache
def load_templates(language: str = ENGLISH) -> Environment:
    """Return the template environment of a language. Every variable is escaped; a missing variable is an error."""
    found = Environment(
        loader=PackageLoader("edgewright.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_as_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[] if language == ENGLISH else [make_translation(load_catalog(language).find_text)],
    )
    found.filters |= {
        "short": numbers.shorten,
        "moment": numbers.format_time,
        "share": show_share,
        "show": numbers.format_value,
    }
    found.filters |= {"own_tags": _list_user_tags, "bar": draw_mini_bar, "unit_of": numbers.get_unit}
    found.filters |= {"breakable": numbers.make_breakable, "unchanged": Unchanged, "sections": _list_sections}
    found.filters |= {"duration": numbers.format_duration, "tr": translate}
    found.globals |= {
        "quantity": numbers.format_quantity,
        "bounds": numbers.format_interval,
        "timed": numbers.format_layer_time,
        "plural": lambda count, word: translate(numbers.pluralize(count, word)),
        "_": translate,
    }
    found.globals["name_state"] = name_state
    found.globals["accuracy_of"] = numbers.find_accuracy
    found.globals["own"] = list_own_addresses()
    return found


class Unchanged(str):
    """Text that a form sends back, in which no character may be replaced."""

    __slots__ = ()


def _as_shown(value: Any) -> Any:
    """Return a value for a template, with the unprintable characters that names from files may contain replaced."""
    if not isinstance(value, str) or isinstance(value, Unchanged):
        return value
    return Markup(printable(value)) if isinstance(value, Markup) else printable(value)  # noqa: S704 - it was Markup


def _list_sections(page: str) -> list[tuple[str, Markup]]:
    """Return the id and the heading of each section of a page that has both."""
    return [(name, Markup(title)) for name, title in _SECTION.findall(page)]  # noqa: S704 - it was escaped before


def _list_user_tags(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the user's tags, without the reserved ones."""
    return [tag for tag in tags.items() if tag[0] not in RESERVED_TAGS]


def render(template: str, links: Links, context: Mapping[str, Any]) -> str:
    """Return the text of a template, for a server's page or a report, depending on `links`."""
    language = get_language()
    shared = {"link": links, "version": __version__, "language": language, "languages": LANGUAGES}
    return load_templates(language).get_template(template).render({**shared, **context})


def make_page_response(
    request: Request, template: str, page: str, facts: Callable[[], Mapping[str, Any]], context: Mapping[str, Any]
) -> Response:
    """Return the page, or its JSON. `facts` returns the JSON content and is called only for JSON."""
    if request.url.path.endswith(".json"):
        return make_json_response({"schema": SCHEMA, "page": page, **facts()})
    app_state = get_app_state(request)
    shared = {"page": page, "csrf": app_state.access_rules.csrf, "json_address": _make_json_address(request)}
    shared["here"] = _make_own_address(request)
    return HTMLResponse(render(template, ServerLinks(), {**shared, **context}))


@contextmanager
def translate_display_errors(*run_ids: str) -> Iterator[None]:
    """Turn an error from displaying the values of runs into a StoreError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        name = run_ids[0] if len(run_ids) == 1 else " or ".join(run_ids)
        raise StoreError(
            f"run {name} cannot be shown",
            f"the run contains values that cannot be displayed ({type(error).__name__})",
            "print it with `edgewright runs show ID --json`, or delete it",
        ) from error


def wants_fragment(request: Request) -> bool:
    """Return whether htmx requests a fragment; when it restores history, it requests the whole page."""
    headers = request.headers
    asks = "hx-request" in headers and "hx-history-restore-request" not in headers
    return asks and not request.url.path.endswith(".json")


def _make_own_address(request: Request) -> str:
    """Return the address of the page, to which the choice of a language leads back."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _make_json_address(request: Request) -> str:
    """Return the JSON address of the page, with the same query."""
    path = request.url.path.rstrip("/")
    return f"{path}.json" + (f"?{request.url.query}" if request.url.query else "")


def make_json_response(value: object, name: str = "") -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json", headers=make_attachment_headers(name))


def make_csv_response(header: Sequence[str], rows: Iterable[Sequence[object]], name: str) -> Response:
    return Response(make_csv(header, rows), media_type="text/csv; charset=utf-8", headers=make_attachment_headers(name))


def make_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return CSV text; text that a spreadsheet would evaluate as a formula gets an apostrophe prefix."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_escape_formula(cell) for cell in row] for row in rows])
    return out.getvalue()


def _escape_formula(cell: object) -> object:
    if isinstance(cell, str) and cell.startswith(FORMULA_PREFIXES):
        return f"'{cell}"
    return "" if cell is None else cell


def make_attachment_headers(name: str) -> dict[str, str]:
    """Return the headers of a download with this file name; none for an empty name."""
    return {"content-disposition": ATTACHMENT_HEADER.format(sanitize_file_name(name))} if name else {}


def sanitize_file_name(name: str) -> str:
    """Return the name with all characters but ASCII letters, digits, `.`, `-` and `_` replaced by `_`."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in ".-_") else "_" for letter in name)[
        -MAX_FILE_NAME:
    ]


def _choose_status(error: EdgewrightError) -> int:
    if isinstance(error, RunNotFound):
        return 404
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, StoreLocked):
        return 503
    return 500 if isinstance(error, StoreError) else 409


def make_error_response(request: Request, error: EdgewrightError, status: int = 0) -> Response:
    """Return an error (what, why, try this) as a page, or as JSON at a JSON address."""
    fields = {"what": error.what, "why": error.why, "try_this": error.try_this}
    code = status or _choose_status(error)
    if request.url.path.endswith(".json"):
        body = msgspec.json.encode({"schema": SCHEMA, "page": "error", "error": fields})
        return Response(body, code, media_type="application/json")
    app_state = get_app_state(request)
    shared = {"page": "error", "csrf": app_state.access_rules.csrf, "json_address": "", "here": "/", "status": code}
    return HTMLResponse(render("error.html", ServerLinks(), {**shared, **fields}), code)
