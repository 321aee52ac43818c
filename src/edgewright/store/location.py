"""Location of the store on this machine."""

import sys
from collections.abc import Mapping
from pathlib import Path


def find_home(environ: Mapping[str, str], platform: str = sys.platform, user_home: Path | None = None) -> Path:
    """Return `EDGEWRIGHT_HOME`, or `edgewright` in the platform's user data folder.

    The folder need not exist. Sources: XDG Base Directory Specification 0.8 (a relative `XDG_DATA_HOME` must
    be ignored), Apple's File System Programming Guide, Microsoft's known folder FOLDERID_LocalAppData.
    """
    chosen = environ.get("EDGEWRIGHT_HOME", "").strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    return _find_data_folder(environ, platform, user_home or Path.home()) / "edgewright"


def get_unsaved_folder(home: Path) -> Path:
    """Return the folder of finished runs that could not be saved (`unsaved.py`)."""
    return home / "unsaved"


def get_bad_folder(home: Path) -> Path:
    """Return the folder of unsaved files that can never be saved."""
    return get_unsaved_folder(home) / "bad"


def list_bad_files(home: Path) -> list[Path]:
    """Return the files of `get_bad_folder`, each with a `.why` file."""
    return sorted(get_bad_folder(home).glob("*.json"))


def _find_data_folder(environ: Mapping[str, str], platform: str, user_home: Path) -> Path:
    if platform == "darwin":
        return user_home / "Library" / "Application Support"
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or user_home / "AppData" / "Local")
    xdg = Path(environ.get("XDG_DATA_HOME") or "")
    return xdg if xdg.is_absolute() else user_home / ".local" / "share"
