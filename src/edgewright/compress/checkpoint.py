"""What a quantisation has found so far, in files, so that an interrupted one goes on where it was."""

import os
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np

from edgewright.compress.reconstruct import Stored


class Checkpoint:
    """Values by name in a folder, each written whole or not at all; a damaged file counts as absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Any:
        """A `Stored`, or plain JSON values; None where there is none."""
        try:
            if (path := self._folder / f"{name}.npz").exists():
                with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                    return Stored(
                        values=file["values"],
                        scale=file["scale"],
                        axis=int(file["axis"]),
                        bits=int(file["bits"]),
                        bias=file["bias"],
                    )
            return msgspec.json.decode((self._folder / f"{name}.json").read_bytes())
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, msgspec.DecodeError):
            return None

    def put(self, name: str, value: Any) -> None:
        suffix = "npz" if isinstance(value, Stored) else "json"
        part = self._folder / f"{name}.part"
        with part.open("wb") as file:
            if isinstance(value, Stored):
                np.savez(file, **value._asdict())
            else:
                file.write(msgspec.json.encode(value))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / f"{name}.{suffix}")
