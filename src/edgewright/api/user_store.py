"""The user's store."""

import os

from edgewright.api.settings import load_store_settings
from edgewright.api.values import check_utf8
from edgewright.store.location import find_home
from edgewright.store.store import Store, open_store
from edgewright.system.temporary import remove_stale_folders_once


def open_user_store() -> Store:
    """Open the store of the environment variables, of the user's config file, or at the default location."""
    remove_stale_folders_once()
    settings = load_store_settings(os.environ)
    folder = find_home(settings.get("home", ""))
    check_utf8("the folder of the store", str(folder))
    return open_store(folder, settings.get("database_url"), settings.get("blob_url"))
