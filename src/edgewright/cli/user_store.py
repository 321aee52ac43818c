"""Workspace of the commands that are not functions of the API."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from edgewright.api.user_store import open_user_store
from edgewright.cli.rendering.output import show_progress
from edgewright.flows.devices.names import open_device
from edgewright.flows.workspace import Workspace


@contextmanager
def open_workspace(device: str = "local") -> Iterator[Workspace]:
    """Open the device of that name and the user's store, and show progress on the terminal."""
    with (
        show_progress() as progress,
        closing(open_user_store()) as store,
        closing(open_device(device, store, progress)) as opened,
    ):
        yield Workspace(opened, store, progress)
