"""What the user's work folders offer to the forms: task files, data sets, recipes.

A request names one by its id in this table, and never by a path. Nothing outside of the folders is offered, wherever
a link or a task's labels may lead; nothing hidden is.
"""

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

from edgewright.errors import UsageError
from edgewright.formats.toml import TomlError, read_toml

OfferKind = Literal["tasks", "data", "recipes"]
SCHEMAS: dict[object, OfferKind] = {"edgewright.task/1": "tasks", "edgewright.recipe/1": "recipes"}
SAMPLES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".wav", ".npy")
MAX_DEPTH = 3
MAX_SEEN = 2_000  # entries of a folder and its own, however deep
MAX_OFFERED = 200  # of a kind
INSPECTED_ENTRIES = 20  # entries that tell whether a folder holds samples
HIDDEN_PREFIXES = (".", "__MACOSX")


class FormChoice(NamedTuple):
    """What a form offers: a request says `id`, a person sees `title`, the command gets `word`."""

    id: str
    title: str
    word: str


def list_offers(folders: Sequence[Path]) -> dict[str, list[FormChoice]]:
    """What is there now, by its kind; the same file has the same id each time."""
    found: dict[str, list[FormChoice]] = {"tasks": [], "data": [], "recipes": []}
    for index, folder in enumerate(folders):
        root = folder.resolve()
        for path in _walk_entries(root):
            name = path.relative_to(root).as_posix()
            kind = _classify_path(path, root)
            if kind and len(found[kind]) < MAX_OFFERED:
                key = sha256(f"{index}/{name}".encode("utf-8", "replace")).hexdigest()[:16]
                found[kind].append(FormChoice(key, name, str(path)))
    return found


def _walk_entries(root: Path) -> Iterator[Path]:
    """Files and folders by name, the nearest first. A data set is one entry; a link counts as what it leads to."""
    level, seen = [root], 0
    for _ in range(MAX_DEPTH):
        below: list[Path] = []
        for folder in level:
            for path in _list_entries(folder):
                seen += 1
                if seen > MAX_SEEN:
                    return
                if path.name.startswith(HIDDEN_PREFIXES) or not _is_inside(path, root):
                    continue
                yield path
                if path.is_dir() and not path.is_symlink() and not _is_data_folder(path):
                    below.append(path)
        level = below


def _list_entries(folder: Path, most: int = MAX_SEEN) -> list[Path]:
    """The first entries of a folder that can be read."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for _, entry in zip(range(most), found, strict=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _is_file_inside(path: Path, root: Path) -> bool:
    """Return whether it is a regular file: opening a pipe or a device could wait for ever."""
    try:
        return _is_inside(path, root) and path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _is_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # a link to nothing, or to itself
        return False


def _classify_path(path: Path, root: Path) -> OfferKind | None:
    if path.is_dir():
        return "data" if _is_data_folder(path) else None
    if not path.is_file():
        return None
    if path.suffix.lower() in (".zip", ".npz"):
        return "data"
    return _classify_toml(path, root) if path.suffix.lower() == ".toml" else None


def _is_data_folder(path: Path) -> bool:
    """Whether it has a table of labels, or samples in itself or in the folders of its classes."""
    inside = _list_entries(path, INSPECTED_ENTRIES)
    return (path / "labels.csv").is_file() or any(
        one.name.lower().endswith(SAMPLES)
        for child in (path, *inside)
        for one in _list_entries(child, INSPECTED_ENTRIES)
    )


def _classify_toml(path: Path, root: Path) -> OfferKind | None:
    """By the schema that the file names; a task whose labels lie elsewhere would let them be read."""
    try:
        table, _ = read_toml(path)
    except (OSError, TomlError):
        return None
    schema = table.get("schema")
    output = table.get("output")
    labels = output.get("labels", "") if isinstance(output, dict) else ""
    if labels and not (isinstance(labels, str) and _is_file_inside(path.parent / labels, root)):
        return None
    return SCHEMAS.get(schema) if isinstance(schema, str) else None


def check_links(path: Path, folders: Sequence[Path]) -> None:
    """Raise UsageError where a data set, or something in it, leads out of the folders by now, or is no file."""
    roots = [folder.resolve() for folder in folders]
    hint = "replace it by a copy of the data, or name the data set with --data on the command line"
    inside = (Path(at) / name for at, below, names in os.walk(path) for name in (*below, *names))
    for one in (path, *inside):
        why = ""
        if (one is path or one.is_symlink()) and not any(_is_inside(one, root) for root in roots):
            why = "it, or a link on its path, leads out of the folder that data may be taken from"
        elif not (one.is_file() or one.is_dir()):
            why = "it is neither a file nor a folder"
        if why:
            raise UsageError(f"{one.name[:80]} cannot be used", why, hint)
