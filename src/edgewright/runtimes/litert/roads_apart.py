"""A place for converters that write where they stand and fetch what they like."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn


@contextmanager
def apart() -> Iterator[Path]:
    """A temporary folder that is the current one, without network, and with the environment's own programs to be found.

    All is as before when the block ends, and the folder is gone.
    """
    before, path = Path.cwd(), os.environ.get("PATH", "")
    with TemporaryDirectory(prefix="edgewright-") as name, no_network():
        os.chdir(name)
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
        try:
            yield Path(name)
        finally:
            os.chdir(before)
            os.environ["PATH"] = path


@contextmanager
def no_network() -> Iterator[None]:
    """Python code of this process finds no network within: each try is an OSError, as on a machine without one."""
    names = {"connect": socket.socket, "connect_ex": socket.socket, "getaddrinfo": socket, "create_connection": socket}
    kept = {name: getattr(owner, name) for name, owner in names.items()}
    for name, owner in names.items():
        setattr(owner, name, _refuse)
    try:
        yield
    finally:
        for name, owner in names.items():
            setattr(owner, name, kept[name])


def _refuse(*arguments: Any, **options: Any) -> NoReturn:
    raise OSError("a converter wanted the network, which it does not get")
