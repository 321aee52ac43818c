"""Page of a model's graph in Netron, if that package is installed.

Netron's own server allows its page to request the user's country from other hosts and to send usage data. This module
serves Netron's files with a policy that allows connections only to this server, and with a version that disables
sending.
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
from edgewright.web.jobs.form import find_run_with_file
from edgewright.web.server.state import get_app_state

MEDIA_TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
}
# Netron uses inline styles; the rest is as strict as the policy of the other pages.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self' data:; worker-src 'self'; form-action 'none'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
VERSION_TAG = re.compile(r'<meta name="version" content="[^"]*">')
DATE_TAG = re.compile(
    r'<meta name="date" content="[^"]*">'
)  # half a year after this date, Netron only asks for an update
CONSENT_COOKIE = "consent"  # without this cookie, Netron requests the user's country from another host
DEVELOPMENT_VERSION = "0.0.0"  # Netron sends no usage data in its development version


def _find_package_folder() -> Path | None:
    """Return Netron's folder; None if it is not installed."""
    found = find_spec("netron")
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def is_installed() -> bool:
    return _find_package_folder() is not None


@cache
def list_files(folder: Path) -> dict[str, Path]:
    """Return Netron's files by name; a requested name is looked up here and never used as a path."""
    return {path.name: path for path in folder.iterdir() if path.suffix in MEDIA_TYPES and path.is_file()}


def graph_page(request: Request) -> Response:
    """Return Netron's page for this model; raise RuntimeMissing if the package is not installed."""
    folder = _find_package_folder()
    if folder is None:
        raise RuntimeMissing("Netron is not installed", "it is required to show a model's graph", "pip install netron")
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
    """Return a run that stores the file of the address's model; raise UsageError if there is none."""
    return find_run_with_file(str(request.path_params["model_id"]), get_app_state(request).store)


def package_file(request: Request) -> Response:
    """Return one of Netron's files."""
    folder = _find_package_folder()
    path = list_files(folder).get(str(request.path_params["name"])) if folder else None
    if path is None:
        return PlainTextResponse("File not found.", 404)
    return Response(path.read_bytes(), media_type=MEDIA_TYPES[path.suffix], headers=_make_policy_headers())


def model_file(request: Request) -> Response:
    """Return the model or one of its weight files, by its name in the run."""
    run, name = _find_run(request), str(request.path_params["name"])
    output = next((one for one in run.outputs if _choose_output_name(one, run) == name), None)
    if output is None:
        return PlainTextResponse("File not found.", 404)
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
