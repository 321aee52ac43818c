"""Removal of the machine's folders from a run, for exports and reports.

File names are kept. Folders reveal the user's name and files and do not affect results.
"""

import os
import re
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

import msgspec
from msgspec.structs import replace

from edgewright.schema.artifact import RECORD_ROLE
from edgewright.schema.run import Run

# Keys of plans and reports whose values are files or folders, for torch sources with a function.
FILE_KEYS = frozenset(
    (
        *("model", "source", "weights", "module", "student", "teacher", "teacher_weights", "student_weights"),
        *("data", "phase_data", "custom_ops", "eval_data", "val", "inputs", "labels", "code", "metric"),
    )
)
# Outputs that are our text; all others are not changed.
TEXT_ROLES = ("log", RECORD_ROLE, "recipe", "quantization", "prune", "distil")
TRAINING_ROLES = ("prune", "distil")  # reports with the keys of plans; in others these keys are names of tensors
ROOT_FOLDERS = frozenset(
    (
        *("home", "Users", "root", "tmp", "var", "private", "mnt", "media", "Volumes", "usr", "opt", "srv", "nix"),
        *("workspace", "workspaces", "scratch", "export", "etc", "run", "proc", "sys", "dev", "cygdrive"),
    )
)
USER_ROOTS = ("home", "Users")
PLACEHOLDER = "…"
_PART = r"""[^/\\\s"'`<>|:;,()\[\]{}=*]"""
_POSIX = re.compile(rf"(?<![\w.~/…-])(?P<top>~|/{_PART}+)(?P<rest>(?:/{_PART}*)*)")
_WINDOWS = re.compile(rf"(?<!\w)(?:[A-Za-z]:|\\\\{_PART}+)[\\/](?P<rest>(?:{_PART}*[\\/])*{_PART}*)")


def strip_folders(run: Run) -> Run:
    """Return the run with file names in place of paths; a second call changes nothing."""
    known = list_known_folders(run)

    def strip(value: Any) -> Any:
        return _strip_value(value, known)

    return replace(
        run,
        model=run.model and replace(run.model, path=_get_base_name(run.model.path)),
        device=run.device and replace(run.device, facts=strip(run.device.facts)),
        plan=_strip_value(run.plan, known, FILE_KEYS),
        environment={
            name: strip_variables(one) if name == "variables" else strip(one) for name, one in run.environment.items()
        },
        error=None if run.error is None else strip_text(run.error, known),
        warnings=tuple(replace(one, text=strip_text(one.text, known)) for one in run.warnings),
    )


def list_known_folders(run: Run | None) -> tuple[str, ...]:
    """Return the folders to remove, those of this machine and of the run's model, the longest first."""
    found = {str(Path.home()), tempfile.gettempdir(), sys.prefix, sys.base_prefix}
    if run is not None and run.model is not None and PurePath(run.model.path).is_absolute():
        found.add(str(PurePath(run.model.path).parent))
    return tuple(sorted((one for one in found if len(one) > 1), key=lambda one: (-len(one), one)))


def strip_bytes(role: str, data: bytes, run: Run) -> bytes:
    """Return the bytes of a text output without folders, and those of any other output unchanged."""
    if role not in TEXT_ROLES:
        return data
    known = list_known_folders(run)
    try:
        value = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return strip_text(data.decode("utf-8", "surrogateescape"), known).encode("utf-8", "surrogateescape")
    strip = _strip_value(value, known, FILE_KEYS if role in TRAINING_ROLES else ())
    return data if strip == value else msgspec.json.encode(strip)


def _strip_value(value: Any, known: Collection[str], keys: Collection[str] = (), key: str = "") -> Any:
    """Return JSON values with the folders of all texts removed; under `keys` also those of relative paths."""
    if isinstance(value, dict):
        return {name: _strip_value(one, known, keys, str(name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_strip_value(one, known, keys, key) for one in value)
    if isinstance(value, str):
        return _get_base_name(value) if key in keys and _is_path(value) else strip_text(value, known)
    return value


def strip_variables(value: Any) -> Any:
    """Return environment variables with every absolute path in them reduced to its last part."""
    if not isinstance(value, dict):
        return _strip_value(value, ())
    return {
        name: _shorten_paths(one, ROOT_FOLDERS, anywhere=True) if isinstance(one, str) else one
        for name, one in value.items()
    }


def strip_text(text: str, known: Collection[str]) -> str:
    """Return a text with its paths reduced to their last part."""
    for folder in known:
        text = text.replace(folder + os.sep, f"{PLACEHOLDER}/") if folder in text else text
        text = re.sub(rf"{re.escape(folder)}(?![\w.-])", PLACEHOLDER, text) if folder in text else text
    text = re.sub(rf"{PLACEHOLDER}/(?:{_PART}*/)*", f"{PLACEHOLDER}/", text) if PLACEHOLDER in text else text
    return _shorten_paths(text, ROOT_FOLDERS)


def _shorten_paths(text: str, roots: Collection[str], *, anywhere: bool = False) -> str:
    def posix(match: re.Match[str]) -> str:
        top = match["top"].removeprefix("/")
        if not (anywhere or top == "~" or top in roots) or not match["rest"]:
            return match[0]
        return _keep_last_part(match["rest"], short=top in USER_ROOTS)

    if "\\" in text or ":" in text:
        text = _WINDOWS.sub(lambda match: _keep_last_part("/" + match["rest"].replace("\\", "/")), text)
    return _POSIX.sub(posix, text) if "/" in text else text


def _keep_last_part(rest: str, *, short: bool = False) -> str:
    """Return the last part of a path; nothing of a home folder itself."""
    parts = [part for part in rest.split("/") if part]
    if not parts or (len(parts) == 1 and short) or rest.endswith("/"):
        return PLACEHOLDER
    return f"{PLACEHOLDER}/{parts[-1]}"


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text


def _get_base_name(text: str) -> str:
    """Return the last part of a path of any system."""
    return PureWindowsPath(text).name or text
