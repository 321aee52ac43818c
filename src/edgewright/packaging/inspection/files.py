"""The files of a project's folder, an APK or an AAB, in one form."""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from edgewright.errors import UsageError
from edgewright.formats.npz import find_expansion_problem
from edgewright.packaging.contract import CONTRACT_FILE

LEFT_OUT = frozenset({".git", ".gradle", ".cxx", ".idea", "b", "build", "node_modules", "DerivedData"})
MOST_FILES = 100_000
MOST_BYTES = 2 << 30  # of one file, and of a whole archive
ABIS = {"arm64-v8a": 64, "x86_64": 64, "armeabi-v7a": 32, "x86": 32}


class PackagedFile(NamedTuple):
    """One file.

    Attributes:
        name: relative to the folder or the archive, with `/`.
        bytes: size when unpacked.
        stored: size in the archive; equal to `bytes` in a folder.
        is_compressed: whether the archive compresses it.
        offset: of its content in the archive; 0 in a folder.
    """

    name: str
    bytes: int
    stored: int
    is_compressed: bool = False
    offset: int = 0

    @property
    def abi(self) -> str:
        """Return the ABI of a shared library by its folder; empty for other files."""
        parts = self.name.split("/")
        return parts[-2] if self.name.endswith(".so") and len(parts) > 1 and parts[-2] in ABIS else ""


class Package(NamedTuple):
    """All files, and how to read one.

    Attributes:
        kind: `folder`, `apk` or `aab`.
        root: folder of the contract and of `model/` and `golden/`, with `/` at its end; empty for the top.
    """

    kind: str
    files: dict[str, PackagedFile]
    read: Callable[[str], bytes]
    root: str

    def hash(self, name: str) -> str:
        return sha256(self.read(name)).hexdigest()

    def list_libraries(self) -> list[PackagedFile]:
        """Return the shared libraries that are in an ABI's folder."""
        return [one for one in self.files.values() if one.abi]


@contextmanager
def open_package(path: Path) -> Iterator[Package]:
    """Open a folder, an APK or an AAB. Raises UsageError if it is none of them."""
    if path.is_dir():
        files = {one.name: one for one in _walk(path)}
        yield Package("folder", files, lambda name: (path / name).read_bytes(), _find_root(files))
        return
    if not path.is_file():
        raise UsageError(f"there is no project {path}", "there is no such file or folder", "check the path")
    try:
        archive = ZipFile(path)
    except (BadZipFile, OSError, ValueError) as error:
        hint = "give the folder that edgewright package wrote, an APK or an AAB"
        raise UsageError(f"{path} is neither a folder nor an APK or AAB", str(error), hint) from None
    with archive, path.open("rb") as raw:
        infos = [one for one in archive.infolist() if not one.is_dir()]
        _check_archive(path, infos)
        found = {one.filename: _describe(one, _find_offset(raw, one)) for one in infos}
        kind = "aab" if path.suffix.lower() == ".aab" or "BundleConfig.pb" in found else "apk"

        def read(name: str) -> bytes:
            try:
                return archive.read(name)
            except Exception as error:  # zipfile, zlib and others raise errors without a common class
                raise UsageError(f"{path} is damaged", f"{name}: {error}", "build it again") from None

        yield Package(kind, found, read, _find_root(found))


def _walk(folder: Path) -> Iterator[PackagedFile]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in LEFT_OUT and not one.startswith(("build-", "b-")))
        for name in sorted(names):
            path = Path(place) / name
            if path.is_symlink() or not path.is_file():
                continue
            count += 1
            if count > MOST_FILES:
                raise UsageError(f"{folder} has over {MOST_FILES} files", "it is no project", "give a project's folder")
            size = path.stat().st_size
            yield PackagedFile(path.relative_to(folder).as_posix(), size, size)


def _check_archive(path: Path, infos: list[ZipInfo]) -> None:
    problems = (find_expansion_problem(one.compress_size, one.file_size) for one in infos)
    problem = next(filter(None, problems), "")
    if problem or sum(one.file_size for one in infos) > MOST_BYTES or len(infos) > MOST_FILES:
        raise UsageError(
            f"{path} is too large to be checked", problem or "it has over 2 GB", "check the folder instead"
        )


def _describe(info: ZipInfo, offset: int) -> PackagedFile:
    return PackagedFile(info.filename, info.file_size, info.compress_size, info.compress_type != ZIP_STORED, offset)


def _find_offset(file: IO[bytes], info: ZipInfo) -> int:
    """Return where a file's content begins: after its local header, which has its own length."""
    file.seek(info.header_offset)
    head = file.read(30)
    return info.header_offset + 30 + sum(struct.unpack_from("<HH", head, 26)) if len(head) == 30 else 0


def _find_root(files: dict[str, PackagedFile]) -> str:
    """Return the folder of the contract, the one that is nearest to the top; empty without one."""
    found = [name for name in files if name == CONTRACT_FILE or name.endswith(f"/{CONTRACT_FILE}")]
    return min(found, key=lambda name: name.count("/")).removesuffix(CONTRACT_FILE) if found else ""
