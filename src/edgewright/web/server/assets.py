"""The files that pages need beside their HTML: ours, and a few of others, whose manifest says whose and what."""

from functools import cache
from hashlib import sha256
from importlib.resources import files

from msgspec import Struct, json
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

OWN_FILES = {"css": "ui.css", "ui": "ui.js", "theme": "theme.js", "plots": "plots.js"}
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MANIFEST = "vendored.json"


class VendoredFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of somebody else's, exactly as its package ships it."""

    file: str
    package: str
    version: str
    path: str
    license: str
    license_text: str
    sha256: str


@cache
def read_static_files() -> dict[str, bytes]:
    """Every file that is served, by its name: a name of a request is looked up here and never becomes a path."""
    folder = files("edgewright.web") / "static"
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.name.endswith(tuple(MEDIA_TYPES))}


def list_vendored_files() -> list[VendoredFile]:
    return json.decode((files("edgewright.web") / "static" / MANIFEST).read_bytes(), type=list[VendoredFile])


@cache
def list_own_addresses() -> dict[str, str]:
    """Our own files with the begin of their hash, so that a browser keeps each for ever and a new one is another."""
    return {name: f"{file}?{sha256(read_static_files()[file]).hexdigest()[:12]}" for name, file in OWN_FILES.items()}


def read_style() -> str:
    return read_static_files()[OWN_FILES["css"]].decode()


def serve_static_file(request: Request) -> Response:
    name = str(request.path_params["name"])
    content = read_static_files().get(name)
    if content is None:
        return PlainTextResponse("There is no such file.", 404)
    kind = MEDIA_TYPES["." + name.rpartition(".")[2]]
    return Response(content, media_type=kind, headers={"cache-control": "public, max-age=31536000, immutable"})
