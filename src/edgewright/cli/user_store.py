"""Access to the user's store at the configured location."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edgewright.cli.config import load_store_settings
from edgewright.cli.parse import check_utf8
from edgewright.cli.rendering.output import show_progress
from edgewright.flows.device_names import open_device
from edgewright.flows.workspace import Workspace
from edgewright.store.location import find_home
from edgewright.store.store import Store, open_store
from edgewright.system.temporary import remove_stale_folders_once


def open_user_store() -> Store:
    remove_stale_folders_once()
    settings = load_store_settings(os.environ)
    folder = Path(settings["home"]).expanduser() if "home" in settings else find_home()
    check_utf8("the folder of the store", str(folder))
    return open_store(folder, settings.get("database_url"), settings.get("blob_url"))


@contextmanager
def open_workspace(device: str = "local") -> Iterator[Workspace]:
    """Open the device of that name and the user's store, and show progress on the terminal."""
    with closing(open_device(device)) as opened, closing(open_user_store()) as store, show_progress() as progress:
        yield Workspace(opened, store, progress)
