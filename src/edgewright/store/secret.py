"""The secret of this user's store, so that other users cannot create a folder that a command resumes from."""

import os
import secrets
from pathlib import Path

from edgewright.store.failures import translate_errors
from edgewright.system.temporary import create_sibling

KEY_FILE = "folder-key"
LENGTH = 64


def load_folder_key(home: Path) -> str:
    """Return the secret for the names of folders with unfinished work; it is created at the first call.

    Raises StoreError if the home is not writable.
    """
    path = home / KEY_FILE
    with translate_errors("the key of unfinished work cannot be stored", str(path)):
        if len(known := _read(path)) == LENGTH:
            return known
        home.mkdir(parents=True, exist_ok=True)
        with create_sibling(path) as part:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(LENGTH // 2))
            part.replace(path)
        return _read(path)


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip() if path.is_file() else ""
