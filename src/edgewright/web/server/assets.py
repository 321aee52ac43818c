"""Static files of the pages: Edgewright's own, and vendored ones that are listed in a manifest."""

from functools import cache
from hashlib import sha256
from importlib.resources import files

from msgspec import Struct, json
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

OWN_FILES = {
    "css": "ui.css",
    "ui": "ui.js",
    "actions": "actions.js",
    "theme": "theme.js",
    "plots": "plots.js",
    "device": "device.js",
    "device_worker": "device-worker.js",
    "device_css": "device.css",
}
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MANIFEST = "vendored.json"


class VendoredFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unmodified file of another package."""

    file: str
    package: str
    version: str
    path: str
    license: str
    license_text: str
    sha256: str


@cache
def read_static_files() -> dict[str, bytes]:
    """Return every static file by name; a requested name is looked up here and never used as a path."""
    folder = files("edgewright.web") / "static"
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.name.endswith(tuple(MEDIA_TYPES))}


def list_vendored_files() -> list[VendoredFile]:
    return json.decode((files("edgewright.web") / "static" / MANIFEST).read_bytes(), type=list[VendoredFile])


@cache
def list_own_addresses() -> dict[str, str]:
    """Return the addresses of Edgewright's own files with a hash, so that a browser can cache each version forever."""
    return {name: f"{file}?{sha256(read_static_files()[file]).hexdigest()[:12]}" for name, file in OWN_FILES.items()}


def read_style() -> str:
    return read_static_files()[OWN_FILES["css"]].decode()


def serve_static_file(request: Request) -> Response:
    name = str(request.path_params["name"])
    content = read_static_files().get(name)
    if content is None:
        return PlainTextResponse("File not found.", 404)
    kind = MEDIA_TYPES["." + name.rpartition(".")[2]]
    return Response(content, media_type=kind, headers={"cache-control": "public, max-age=31536000, immutable"})
