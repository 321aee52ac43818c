"""Some room on the disk of the database that is given up when the disk is full.

SQLite needs a little room even to read (the index of its log) and more to delete. Without it a full disk could
neither be looked at nor be freed by deleting runs.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

SUFFIX = ".reserve"
MOST_BYTES, LEAST_BYTES = 1 << 20, 128 << 10
SHARE = 8  # of the free space, one part is taken at most


class Reserve:
    """The file that holds the room. Any process may call, at any time; nothing here raises an OSError."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + SUFFIX)
        self._released_bytes = 0

    def keep(self) -> None:
        """Take the room, if it is not taken: where there is plenty, or all that was released before."""
        with suppress(OSError):
            free = shutil.disk_usage(self._path.parent).free
            size = max(min(MOST_BYTES, free // SHARE), min(self._released_bytes, free))
            if size < LEAST_BYTES or self._path.exists():
                return
            try:
                with self._path.open("xb") as file:
                    file.write(os.urandom(size))  # zeros would take no room on a disk that compresses
            except OSError:
                self.release()

    def release(self) -> bool:
        """Give the room up; whether there was any."""
        try:
            size = self._path.stat().st_size
            self._path.unlink()
        except OSError:
            return False
        self._released_bytes = size
        return True

    @property
    def is_released(self) -> bool:
        return not self._path.exists()

    def release_if_full(self) -> None:
        """Give the room up where hardly any other is left."""
        with suppress(OSError):
            if shutil.disk_usage(self._path.parent).free < MOST_BYTES:
                self.release()
