"""Location of the store on this machine."""

import os
from pathlib import Path

import platformdirs


def find_home(configured: str = "") -> Path:
    """Return `EDGEWRIGHT_HOME`, else the configured folder, else `edgewright` in the platform's folder for user data.

    The folder is absolute; it need not exist. A blank name counts as none.
    """
    chosen = os.environ.get("EDGEWRIGHT_HOME", "").strip() or configured.strip()
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_data_path("edgewright", appauthor=False)


def get_unsaved_folder(home: Path) -> Path:
    """Return the folder of finished runs that could not be saved (`unsaved.py`)."""
    return home / "unsaved"


def get_bad_folder(home: Path) -> Path:
    """Return the folder of unsaved files that can never be saved."""
    return get_unsaved_folder(home) / "bad"


def list_bad_files(home: Path) -> list[Path]:
    """Return the files of `get_bad_folder`, each with a `.why` file."""
    return sorted(get_bad_folder(home).glob("*.json"))
