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
from edgewright.facts.run import Output, Run
from edgewright.flows.stored_model import file_name_of, stored_model
from edgewright.web.state import desk_of
from edgewright.web.work import run_with_file

TYPES = {
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
VERSION = re.compile(r'<meta name="version" content="[^"]*">')
DATE = re.compile(r'<meta name="date" content="[^"]*">')  # after half a year it would do nothing but ask for an update
ASKED = "consent"  # the cookie by which it knows that it has asked; without it, it asks another host for the country
UNSENT = "0.0.0"  # which Netron takes for its own workshop: nothing is counted there


def package_folder() -> Path | None:
    """Where Netron's files lie; None where it is not installed."""
    found = find_spec("netron")
    return Path(found.submodule_search_locations[0]) if found and found.submodule_search_locations else None


def is_installed() -> bool:
    return package_folder() is not None


@cache
def list_files(folder: Path) -> dict[str, Path]:
    """Netron's files by name; a name of a request is looked up here and never becomes a path."""
    return {path.name: path for path in folder.iterdir() if path.suffix in TYPES and path.is_file()}


def graph_page(request: Request) -> Response:
    """Netron's page, told to open this model. RuntimeMissing where the package is absent."""
    folder = package_folder()
    if folder is None:
        raise RuntimeMissing("Netron is not installed", "it shows a model's graph", "pip install netron")
    run = find_run(request)
    name = escape(file_name_of(stored_model(run)))
    told = f'<meta name="type" content="Python"><meta name="version" content="{UNSENT}">'
    told += f'<meta name="file" content="data/{name}"><meta name="name" content="{name}">'
    page = (folder / "index.html").read_text(encoding="utf-8")
    page = DATE.sub("", VERSION.sub(lambda _: told, page, count=1))
    answer = Response(page, media_type="text/html", headers=own_policy())
    answer.set_cookie(ASKED, "1", path="/netron/", samesite="strict")
    return answer


def own_policy() -> dict[str, str]:
    return {"content-security-policy": POLICY}


def find_run(request: Request) -> Run:
    """A run that kept the bytes of the address's model; UsageError where there is none."""
    return run_with_file(str(request.path_params["model_id"]), desk_of(request).store)


def package_file(request: Request) -> Response:
    """One of Netron's own files."""
    folder = package_folder()
    path = list_files(folder).get(str(request.path_params["name"])) if folder else None
    if path is None:
        return PlainTextResponse("There is no such file.", 404)
    return Response(path.read_bytes(), media_type=TYPES[path.suffix], headers=own_policy())


def model_file(request: Request) -> Response:
    """The model, or one of its weight files, by the name that the run knows it by."""
    run, name = find_run(request), str(request.path_params["name"])
    output = next((one for one in run.outputs if name_of(one, run) == name), None)
    if output is None:
        return PlainTextResponse("There is no such file.", 404)
    file = desk_of(request).store.open_blob(output.sha256)

    def pieces() -> Iterator[bytes]:
        with file:
            while piece := file.read(1 << 20):
                yield piece

    headers = {"content-length": str(output.bytes)}
    return StreamingResponse(pieces(), media_type="application/octet-stream", headers=headers)


def name_of(output: Output, run: Run) -> str:
    if output.role == "model":
        return file_name_of(stored_model(run))
    return output.role.removeprefix("data:") if output.role.startswith("data:") else ""
