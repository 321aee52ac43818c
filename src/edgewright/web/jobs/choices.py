"""Files of the work folders that forms offer: task files, datasets, recipes.

A request names a file by its id, never by a path. Files outside of the folders are not offered, even through a link or
a task's labels; hidden files are not offered.
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
MAX_SEEN = 2_000  # entries of a work folder, including nested ones
MAX_OFFERED = 200  # of one kind
INSPECTED_ENTRIES = 20  # entries that are checked for samples
HIDDEN_PREFIXES = (".", "__MACOSX")


class FormChoice(NamedTuple):
    """Choice in a form: the request contains `id`, the page shows `title`, the command gets `word`."""

    id: str
    title: str
    word: str


def list_offers(folders: Sequence[Path]) -> dict[str, list[FormChoice]]:
    """Return the offered files by kind; the id of a file is stable."""
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
    """Yield files and folders level by level, sorted by name. A dataset is one entry; a link counts as its target."""
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
    """Return the first entries of a folder that can be read."""
    try:
        with os.scandir(folder) as found:
            names = [entry.name for _, entry in zip(range(most), found, strict=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _is_file_inside(path: Path, root: Path) -> bool:
    """Return whether a path is a regular file in the folder; opening a pipe or a device could block forever."""
    try:
        return _is_inside(path, root) and path.is_file()
    except (OSError, ValueError):  # not a valid file name
        return False


def _is_inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # a broken or circular link
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
    """Return whether a folder has a table of labels, or samples in it or in its class folders."""
    inside = _list_entries(path, INSPECTED_ENTRIES)
    return (path / "labels.csv").is_file() or any(
        one.name.lower().endswith(SAMPLES)
        for child in (path, *inside)
        for one in _list_entries(child, INSPECTED_ENTRIES)
    )


def _classify_toml(path: Path, root: Path) -> OfferKind | None:
    """Return the kind of a TOML file by its schema; None for a task with labels outside of the folder."""
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
    """Raise UsageError if a dataset, or something in it, is now outside of the folders, or is a special file."""
    roots = [folder.resolve() for folder in folders]
    hint = "replace it with a copy of the data, or give the dataset with --data on the command line"
    inside = (Path(at) / name for at, below, names in os.walk(path) for name in (*below, *names))
    for one in (path, *inside):
        why = ""
        if (one is path or one.is_symlink()) and not any(_is_inside(one, root) for root in roots):
            why = "it is, by a link, outside of the folder that may contain the data"
        elif not (one.is_file() or one.is_dir()):
            why = "it is neither a regular file nor a folder"
        if why:
            raise UsageError(f"{one.name[:80]} cannot be used", why, hint)
