"""Kinds of files that torch writes, by their content and without torch."""

import pickletools
from pathlib import Path
from shlex import quote
from typing import Literal
from zipfile import BadZipFile, ZipFile

from edgewright.errors import ModelUnreadable

TorchKind = Literal["script", "exported", "weights", "module", ""]
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number with which torch.save began before 1.6
END_RECORD, MAX_DIRECTORY_BYTES = b"PK\x05\x06", 8 << 20
MAX_PICKLE_BYTES = 1 << 16  # of a pickle's start, which shows what it holds


def find_torch_kind(path: Path) -> TorchKind:
    """Return what a file of torch is; empty if it is none, or cannot be read.

    `script` is a TorchScript file, `exported` a program of torch.export; torch.save wrote `weights` (a state_dict or a
    checkpoint) and `module` (a pickled module).
    """
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            if file.read(len(LEGACY)) == LEGACY:
                return "weights"
        return _find_archive_kind(path) if _has_small_directory(path) else ""
    except (OSError, BadZipFile, ValueError, RuntimeError, NotImplementedError):
        return ""


def _has_small_directory(path: Path) -> bool:
    """Return whether a zip's list of files can be read without much memory."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 22))
        tail = file.read()
    found = tail.rfind(END_RECORD)
    return found >= 0 and int.from_bytes(tail[found + 12 : found + 16], "little") <= MAX_DIRECTORY_BYTES


def _find_archive_kind(path: Path) -> TorchKind:
    with ZipFile(path) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        if "constants.pkl" in names and any(name.startswith("code/") for name in names):
            return "script"
        if "models/model.json" in names or "serialized_exported_program.json" in archive.namelist():
            return "exported"
        if "data.pkl" not in names:
            return ""
        with archive.open(names["data.pkl"]) as member:
            return "module" if _starts_with_class(member.read(MAX_PICKLE_BYTES)) else "weights"


def _starts_with_class(pickle: bytes) -> bool:
    """Return whether a pickle's outermost object is of a class other than a dict; nothing of it is executed."""
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name in ("GLOBAL", "SHORT_BINUNICODE"):  # a class, or since protocol 4 its module
            return argument not in ("collections OrderedDict", "collections")
        if opcode.name not in ("PROTO", "FRAME"):
            return False
    return False


def make_torch_error(path: Path) -> ModelUnreadable | None:
    """Return the error for a torch file where a model of another format is expected; None for another file."""
    name = path.name
    match find_torch_kind(path):
        case "weights":
            return ModelUnreadable(
                f"{path} has weights, but no model",
                "torch.save wrote a state_dict or a checkpoint, which does not contain the operators of the model",
                "compile the Python file that builds the module: edgewright compile FILE.py:FACTORY "
                f"--weights {quote(name)} --shape NAME=SIZES",
            )
        case "module":
            return ModelUnreadable(
                f"{path} is a pickled module of torch.save",
                "it refers to Python code that it does not contain, and loading it would run code",
                "save its weights, torch.save(module.state_dict(), 'weights.pt'), then: edgewright compile "
                "FILE.py:FACTORY --weights weights.pt --shape NAME=SIZES",
            )
        case "script" | "exported" as kind:
            title = "TorchScript" if kind == "script" else "a program of torch.export"
            return ModelUnreadable(
                f"{path} cannot be used here",
                f"it is {title}, which has to be compiled first",
                f"edgewright compile {quote(name)} --shape NAME=SIZES, then give one of the artifacts",
            )
    return None
