"""What all pages share while the server runs."""

from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from edgewright.store.store import Store
from edgewright.web.jobs.queue import JobQueue
from edgewright.web.server.access import AccessRules
from edgewright.web.server.deletions import DeletionQueue
from edgewright.web.server.events import EventBroadcaster


@dataclass(frozen=True)
class AppState:
    """The record, the jobs, the watchers, what is about to be deleted, the user's files by their word, and the folders
    whose files may be used."""

    store: Store
    access_rules: AccessRules
    jobs: JobQueue
    live: EventBroadcaster
    deletions: DeletionQueue
    upload_folder: Path
    work_folders: tuple[Path, ...] = ()
    uploads: dict[str, Path] = field(default_factory=dict)


def get_app_state(request: Request) -> AppState:
    found: AppState = request.app.state.app_state
    return found
