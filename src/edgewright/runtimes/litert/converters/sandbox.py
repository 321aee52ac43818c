"""Isolation of converters that write to the current folder and download files."""

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
    """Use a temporary folder as current folder and home, without network and with the environment's programs in PATH.

    Keras and others write into the home at import. At the end of the block everything is restored, and the
    folder is removed.
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
    """Set these environment variables during the block."""
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
    """Block network access of Python code in this process: each attempt raises OSError, as on a machine without
    network."""
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
