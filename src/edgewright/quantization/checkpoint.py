"""Intermediate results of a quantization in files, so that an interrupted one can be resumed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import msgspec
import numpy as np

from edgewright.quantization.static.reconstruct import QuantizedWeights

DAMAGE_ERRORS = (OSError, ValueError, KeyError, EOFError, BadZipFile, msgspec.DecodeError)


class Checkpoint:
    """Values by name in a folder, each written atomically; a damaged file counts as absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> Any:
        """Return a `QuantizedWeights` or plain JSON values; None if there are none."""
        try:
            if (found := self.get_arrays(name)) is not None:
                return QuantizedWeights(
                    values=found["values"],
                    scale=found["scale"],
                    axis=int(found["axis"]),
                    bits=int(found["bits"]),
                    bias=found["bias"],
                )
            return msgspec.json.decode((self._folder / f"{name}.json").read_bytes())
        except DAMAGE_ERRORS:
            return None

    def get_arrays(self, name: str) -> dict[str, Any] | None:
        """Return the stored arrays by name; None if there are none."""
        try:
            with (self._folder / f"{name}.npz").open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except DAMAGE_ERRORS:
            return None

    def put(self, name: str, value: Any) -> None:
        if isinstance(value, QuantizedWeights):
            self.put_arrays(name, value._asdict())
            return
        with self._written(f"{name}.json") as file:
            file.write(msgspec.json.encode(value))

    def put_arrays(self, name: str, arrays: Mapping[str, Any]) -> None:
        with self._written(f"{name}.npz") as file:
            np.savez(file, **arrays)

    @contextmanager
    def _written(self, name: str) -> Iterator[IO[bytes]]:
        part = self._folder / f"{name}.part"
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._folder / name)
