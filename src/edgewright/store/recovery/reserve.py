"""Reserved disk space that is released when the disk is full.

SQLite requires space to read (the index of its log) and more to delete. Without it, runs on a full disk could
be neither listed nor deleted.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

SUFFIX = ".reserve"
MAX_BYTES, MIN_BYTES = 1 << 20, 128 << 10
SHARE = 8  # at most one part of the free space is reserved


class Reserve:
    """The file that reserves the space. Safe for all processes; no method raises OSError."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + SUFFIX)
        self._released_bytes = 0

    def acquire(self) -> None:
        """Reserve a share of the free space, at least the released size, unless it is reserved."""
        with suppress(OSError):
            free = shutil.disk_usage(self._path.parent).free
            size = max(min(MAX_BYTES, free // SHARE), min(self._released_bytes, free))
            if size < MIN_BYTES or self._path.exists():
                return
            try:
                with self._path.open("xb") as file:
                    file.write(os.urandom(size))  # zeros would take no space on a compressing file system
            except OSError:
                self.release()

    def release(self) -> bool:
        """Release the space. Return whether there was any."""
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
        """Release the space if the disk is almost full."""
        with suppress(OSError):
            if shutil.disk_usage(self._path.parent).free < MAX_BYTES:
                self.release()
