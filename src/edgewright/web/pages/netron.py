"""A model's graph in Netron, where that package is installed.

Its own server would let its pages ask other hosts for the reader's country and send usage there. Its files are served
by us instead, under a policy that lets them reach nothing but us, and under a version that switches the sending off.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from markupsafe import escape
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from edgewright.errors import RuntimeMissing
from edgewright.flows.stored_model import get_stored_model, make_file_name
from edgewright.schema.run import Run, RunOutput
from edgewright.web.pages.work import find_run_with_file
from edgewright.web.server.state import get_app_state

MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
}
# Netron styles its page inline; everything else is as strict as ours.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self' data:; worker-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
VERSION_TAG = re.compile(r'<meta name="version" content="[^"]*">')
DATE_TAG = re.compile(
    r'<meta name="date" content="[^"]*">'
)  # after half a year it would do nothing but ask for an update
CONSENT_COOKIE = (
    "consent"  # the cookie by which it knows that it has asked; without it, it asks another host for the country
)
DEVELOPMENT_VERSION = "0.0.0"  # which Netron takes for its own workshop: nothing is counted there


def _find_package_folder() -> Path | None:
    """Where Netron's files lie; None where it is not installed."""
    found = find_spec("netron")
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def is_installed() -> bool:
    return _find_package_folder() is not None


@cache
def list_files(folder: Path) -> dict[str, Path]:
    """Netron's files by name; a name of a request is looked up here and never becomes a path."""
    return {path.name: path for path in folder.iterdir() if path.suffix in MEDIA_TYPES and path.is_file()}


def graph_page(request: Request) -> Response:
    """Netron's page, told to open this model. RuntimeMissing where the package is absent."""
    folder = _find_package_folder()
    if folder is None:
        raise RuntimeMissing("Netron is not installed", "it shows a model's graph", "pip install netron")
    run = _find_run(request)
    name = escape(make_file_name(get_stored_model(run)))
    meta_tags = f'<meta name="type" content="Python"><meta name="version" content="{DEVELOPMENT_VERSION}">'
    meta_tags += f'<meta name="file" content="data/{name}"><meta name="name" content="{name}">'
    page = (folder / "index.html").read_text(encoding="utf-8")
    page = DATE_TAG.sub("", VERSION_TAG.sub(lambda _: meta_tags, page, count=1))
    answer = Response(page, media_type="text/html", headers=_make_policy_headers())
    answer.set_cookie(CONSENT_COOKIE, "1", path="/netron/", samesite="strict")
    return answer


def _make_policy_headers() -> dict[str, str]:
    return {"content-security-policy": POLICY}


def _find_run(request: Request) -> Run:
    """A run that kept the bytes of the address's model; UsageError where there is none."""
    return find_run_with_file(str(request.path_params["model_id"]), get_app_state(request).store)


def package_file(request: Request) -> Response:
    """One of Netron's own files."""
    folder = _find_package_folder()
    path = list_files(folder).get(str(request.path_params["name"])) if folder else None
    if path is None:
        return PlainTextResponse("There is no such file.", 404)
    return Response(path.read_bytes(), media_type=MEDIA_TYPES[path.suffix], headers=_make_policy_headers())


def model_file(request: Request) -> Response:
    """The model, or one of its weight files, by the name that the run knows it by."""
    run, name = _find_run(request), str(request.path_params["name"])
    output = next((one for one in run.outputs if _choose_output_name(one, run) == name), None)
    if output is None:
        return PlainTextResponse("There is no such file.", 404)
    file = get_app_state(request).store.open_blob(output.sha256)

    def pieces() -> Iterator[bytes]:
        with file:
            while piece := file.read(1 << 20):
                yield piece

    headers = {"content-length": str(output.bytes)}
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)


def _choose_output_name(output: RunOutput, run: Run) -> str:
    if output.role == "model":
        return make_file_name(get_stored_model(run))
    return output.role.removeprefix("data:") if output.role.startswith("data:") else ""
