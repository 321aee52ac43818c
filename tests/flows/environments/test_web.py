"""Setup of the runtimes for browsers: from a folder, and with a stand-in for npm; nothing is downloaded."""

import io
import sys
import tarfile
from base64 import b64encode
from hashlib import sha512
from pathlib import Path

import pytest

from edgewright.errors import EdgewrightError, RuntimeMissing, UsageError
from edgewright.flows.environments import web as setup
from edgewright.flows.environments.web import remove_web_runtimes, set_up_web_runtimes
from edgewright.runtimes import web
from edgewright.runtimes.web import WEB_PACKAGES, WebPackage, find_folder, list_web_runtimes

CONTENT = b'import { createWasmLib } from "@litertjs/wasm-utils";'
STAND_IN = """#!/bin/sh
echo "$@" >> "{log}"
cp "{archives}"/*.tgz "$5"
"""


def nothing(text: str) -> None:
    """Progress callback that does nothing."""


def pack(folder: Path, *names: str) -> WebPackage:
    """Write an archive as `npm pack` does, and return its row of the table."""
    folder.mkdir(exist_ok=True)
    package = WebPackage("@small/core", "1.0.0", "litert", "", ("dist/index.js",))
    with tarfile.open(folder / package.archive, "w:gz") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(CONTENT)
            archive.addfile(member, io.BytesIO(CONTENT))
    digest = b64encode(sha512((folder / package.archive).read_bytes()).digest()).decode()
    return package._replace(integrity=f"sha512-{digest}")


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the archive of the table's only package."""
    package = pack(tmp_path / "archives", "package/dist/index.js", "package/../../outside.js", "package/rest.js")
    for module in (web, setup):
        monkeypatch.setattr(module, "WEB_PACKAGES", (package,))
    return tmp_path / "archives"


def test_the_files_that_pages_load_are_taken_from_a_folder(archives: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert list_web_runtimes(home) == {}
    folder = set_up_web_runtimes(home, archives, nothing)
    assert folder == find_folder(home)
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert files == ["small-core/dist/index.js"]
    content = (folder / files[0]).read_bytes()
    assert content == b'import { createWasmLib } from "../../litertjs-wasm-utils/dist/index.js";'
    assert list_web_runtimes(home) == {"litert": "1.0.0"}
    assert set_up_web_runtimes(home, tmp_path, nothing) == folder  # nothing is read a second time
    assert remove_web_runtimes(home) == [folder]
    assert list_web_runtimes(home) == {}


def test_a_changed_archive_is_rejected_and_leaves_nothing(archives: Path, tmp_path: Path) -> None:
    (archives / "small-core-1.0.0.tgz").write_bytes(b"changed")
    with pytest.raises(EdgewrightError, match="is not the pinned @small/core"):
        set_up_web_runtimes(tmp_path / "home", archives, nothing)
    assert not [path for path in (tmp_path / "home" / web.FOLDER).iterdir() if path.is_dir()]


def test_a_missing_archive_is_named_with_the_command(archives: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"small-core-1\.0\.0\.tgz") as caught:
        set_up_web_runtimes(tmp_path / "home", tmp_path, nothing)
    assert caught.value.try_this == "run there: npm pack @small/core@1.0.0"


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_npm_packs_the_pinned_versions_without_scripts(
    archives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(STAND_IN.format(log=tmp_path / "log", archives=archives))
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    set_up_web_runtimes(tmp_path / "home", None, nothing)
    assert list_web_runtimes(tmp_path / "home") == {"litert": "1.0.0"}
    assert (tmp_path / "log").read_text().startswith("pack @small/core@1.0.0 --ignore-scripts --pack-destination ")
    npm.write_text("#!/bin/sh\necho 'npm error 404' >&2; exit 1\n")
    remove_web_runtimes(tmp_path / "home")
    with pytest.raises(EdgewrightError, match="npm error 404"):
        set_up_web_runtimes(tmp_path / "home", None, nothing)
    npm.unlink()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(RuntimeMissing, match="npm is not installed"):
        set_up_web_runtimes(tmp_path / "home", None, nothing)


def test_every_pinned_package_has_a_hash_and_files() -> None:
    for package in WEB_PACKAGES:
        assert package.integrity.startswith("sha512-")
        assert package.files
        assert not any(name.startswith("/") or ".." in name for name in package.files)
