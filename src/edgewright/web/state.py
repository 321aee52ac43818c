"""What all pages share while the server runs."""

from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from edgewright.store.store import Store
from edgewright.web.guard import Doors
from edgewright.web.jobs import Jobs
from edgewright.web.live import Live
from edgewright.web.undo import Bin


@dataclass(frozen=True)
class Desk:
    """The record, the jobs, the watchers, what is about to be deleted, the user's files by their word, and the folders
    whose files may be used."""

    store: Store
    doors: Doors
    jobs: Jobs
    live: Live
    bin: Bin
    upload_folder: Path
    work_folders: tuple[Path, ...] = ()
    uploads: dict[str, Path] = field(default_factory=dict)


def desk_of(request: Request) -> Desk:
    found: Desk = request.app.state.desk
    return found
