"""The operators of a `--custom-ops` folder, built, and the file that names them for workers and beside artifacts."""

import os
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from edgewright.errors import ConfigError, RuntimeMissing
from edgewright.kernels.build import build_library, find_cache, find_compiler
from edgewright.kernels.custom.description import FILE, CustomOperator, read_operators
from edgewright.kernels.custom.place import SUFFIX, VARIABLE
from edgewright.kernels.sources import FLAGS, NATIVE
from edgewright.system.files import read_regular

HEADER = "edgewright_operator.h"
HASHED = (".toml", ".c", ".h", ".py")
SCHEMA = "edgewright.operators/1"
_LIBRARY = re.compile(r"[\w-]{1,200}\.(so|dll|dylib)")


class LayerShapes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A custom layer of ncnn, whose blobs have no batch axis.

    Attributes:
        operator: its name with the domain.
        inputs, outputs: shapes in the source model.
        blobs: shapes of the outputs in ncnn.
        attributes: of the node.
    """

    operator: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    blobs: tuple[tuple[int, ...], ...]
    attributes: dict[str, float] = {}


class OperatorsFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a session must know of a model's custom operators: `STEM.operators.json` beside an artifact.

    Attributes:
        library: file name in the cache of kernels. It is never read from elsewhere, so an artifact of another machine
            runs no code of that machine.
        sha256: of the library.
        layers: by name, in ncnn.
        reference: the folder whose reference functions take the place of the library; only `compile` sets it.
    """

    schema: str = SCHEMA
    library: str
    sha256: str
    operators: tuple[CustomOperator, ...]
    layers: dict[str, LayerShapes] = {}
    reference: str = ""


def hash_folder(folder: Path) -> str:
    """Return the hash of a folder's description and sources. Raises ConfigError if they cannot be read."""
    digest = sha256()
    try:
        for path in sorted(path for path in folder.iterdir() if path.suffix in HASHED):
            digest.update(path.name.encode(errors="surrogateescape") + b"\0" + sha256(read_regular(path)).digest())
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(f"--custom-ops {folder} cannot be used", why, f"name a folder with {FILE}") from None
    return digest.hexdigest()


def build_operators(folder: Path) -> OperatorsFile:
    """Compile the kernels of a folder, unless they are in the cache. Raises ConfigError, RuntimeMissing."""
    folder = folder.absolute()
    operators = read_operators(folder)
    if (compiler := find_compiler()) is None:
        raise RuntimeMissing(
            f"the operators of {folder.name} cannot be built",
            "no C compiler was found (cc, gcc, clang, zig)",
            "install one, or pip install ziglang",
        )
    sources = [folder / name for name in dict.fromkeys(one.source for one in operators)]
    header = sha256((NATIVE / HEADER).read_bytes()).hexdigest()[:16]  # another header is another library
    path, why = build_library(compiler, sources, (*FLAGS, f"-I{NATIVE}", f"-DEW_HEADER=0x{header}"))
    if path is None:
        raise ConfigError(f"the operators of {folder.name} cannot be built", why, f"correct the sources in {folder}")
    return OperatorsFile(
        library=path.name, sha256=sha256(path.read_bytes()).hexdigest(), operators=operators, reference=str(folder)
    )


def read_operators_file(path: Path) -> OperatorsFile:
    """Return the content of a file of `find_operators_path`. Raises ValueError if it cannot be read."""
    try:
        found = msgspec.json.decode(read_regular(path), type=OperatorsFile)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None
    if found.schema != SCHEMA or not _LIBRARY.fullmatch(found.library):
        raise ValueError(f"{path.name} is not a file of {SCHEMA}")
    if str(path) == os.environ.get(VARIABLE):
        return found
    return msgspec.structs.replace(found, reference="")  # a file beside a model runs no code of its own


def write_operators(given: OperatorsFile, layers: Mapping[str, LayerShapes], main: Path) -> None:
    """Write the file beside an artifact."""
    made = msgspec.structs.replace(given, layers=dict(layers), reference="")
    main.with_suffix(SUFFIX).write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")


def find_library(given: OperatorsFile) -> Path:
    """Return the library in the cache. Raises ValueError if it is missing there, or another one."""
    path = find_cache() / given.library
    names = ", ".join(one.key for one in given.operators)
    if not path.is_file():
        raise ValueError(f"the library of its custom operators ({names}) is not in {path.parent}: {path.name}")
    if sha256(path.read_bytes()).hexdigest() != given.sha256:
        raise ValueError(f"the library of its custom operators ({names}) is not the one that compile checked")
    return path
