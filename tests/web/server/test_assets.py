"""Vendored files are unmodified, and the total size of scripts is small."""

from hashlib import sha256
from importlib.resources import files

import pytest

from edgewright.web.server.assets import (
    MEDIA_TYPES,
    OWN_FILES,
    VendoredFile,
    list_own_addresses,
    list_vendored_files,
    read_static_files,
)
from edgewright.web.server.responses import load_templates
from tests.web.conftest import Pages

STATIC = files("edgewright.web") / "static"
MOST_SCRIPT_BYTES = 150_000
MOST_DEVICE_SCRIPT_BYTES = 30_000
FREE = ("0BSD", "MIT", "BSD-3-Clause", "Apache-2.0")


@pytest.mark.parametrize("one", list_vendored_files(), ids=lambda one: one.file)
def test_vendored_file(one: VendoredFile) -> None:
    content = (STATIC / one.file).read_bytes()
    assert sha256(content).hexdigest() == one.sha256
    assert one.version in one.file
    assert one.license in FREE
    assert len((STATIC / one.license_text).read_text()) > 300
    assert one.version in one.license_text


def test_every_file_is_ours_or_in_the_manifest() -> None:
    known = {*OWN_FILES.values(), "mark.svg", *(one.file for one in list_vendored_files())}
    assert set(read_static_files()) == known


def test_all_script_together_is_small() -> None:
    sizes = {name: len(content) for name, content in read_static_files().items() if name.endswith(".js")}
    of_devices = {name: sizes.pop(name) for name in ("device.js", "device-worker.js")}  # of another page
    assert len(sizes) >= 4
    assert sum(sizes.values()) < MOST_SCRIPT_BYTES
    assert sum(of_devices.values()) < MOST_DEVICE_SCRIPT_BYTES


def test_no_address_of_another_host_in_any_of_our_files() -> None:
    ours = [read_static_files()[name].decode() for name in OWN_FILES.values()]
    loader = load_templates().loader
    assert loader is not None
    names = loader.list_templates()
    assert len(names) > 15
    ours += [(files("edgewright.web") / "templates" / name).read_text() for name in names]
    for text in ours:
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text


def test_static_files_are_kept_by_the_browser(pages: Pages) -> None:
    for name, address in list_own_addresses().items():
        answer = pages.get(f"/static/{address}")
        assert answer.status == 200, name
        assert answer.headers["content-type"].startswith(MEDIA_TYPES["." + OWN_FILES[name].rpartition(".")[2]])
        assert "immutable" in answer.headers["cache-control"]
    assert pages.get("/runs").headers["cache-control"] == "no-store"
