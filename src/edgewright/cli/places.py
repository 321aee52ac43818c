"""Opens the user's store, where environment and config say it is."""

import os
from pathlib import Path

from edgewright.cli.config import store_places
from edgewright.cli.parse import check_utf8
from edgewright.store.place import home
from edgewright.store.store import Store, open_store
from edgewright.system.temporary import sweep_once


def open_user_store() -> Store:
    sweep_once()
    places = store_places(os.environ)
    folder = Path(places["home"]).expanduser() if "home" in places else home(os.environ)
    check_utf8("the home of the record", str(folder))
    return open_store(folder, places.get("database_url"), places.get("blob_url"))
