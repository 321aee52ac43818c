"""A place for converters that write where they stand and fetch what they like."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from edgewright.system.temporary import TemporaryFolder


@contextmanager
def enter_sandbox() -> Iterator[Path]:
    """A temporary folder that is the current one and the home, without network; the environment's programs are found.

    Keras and others write into the home when they are merely imported. All is as before when the block ends, and the
    folder is gone.
    """
    before = Path.cwd()
    with TemporaryFolder() as folder, no_network():
        name = str(folder)
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        os.chdir(name)
        try:
            with changed_environment(PATH=programs, HOME=name, USERPROFILE=name):
                yield folder
        finally:
            os.chdir(before)


@contextmanager
def changed_environment(**variables: str) -> Iterator[None]:
    """Set these variables for the block, and put back what was there."""
    kept = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def no_network() -> Iterator[None]:
    """Python code of this process finds no network within: each try is an OSError, as on a machine without one."""
    names = {"connect": socket.socket, "connect_ex": socket.socket, "getaddrinfo": socket, "create_connection": socket}
    kept = {name: getattr(owner, name) for name, owner in names.items()}
    for name, owner in names.items():
        setattr(owner, name, _reject_connection)
    try:
        yield
    finally:
        for name, owner in names.items():
            setattr(owner, name, kept[name])


def _reject_connection(*arguments: Any, **options: Any) -> NoReturn:
    raise OSError("a converter tried to use the network, which is blocked")
