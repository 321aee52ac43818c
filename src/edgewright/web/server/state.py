"""Application state."""

from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from edgewright.schema.model import Model
from edgewright.store.store import Store
from edgewright.web.jobs.queue import JobQueue
from edgewright.web.server.access import AccessRules
from edgewright.web.server.deletions import DeletionQueue
from edgewright.web.server.events import EventBroadcaster


@dataclass(frozen=True)
class AppState:
    """Objects that all pages share: store, jobs, events, pending deletions, uploaded models by id, work folders."""

    store: Store
    access_rules: AccessRules
    jobs: JobQueue
    live: EventBroadcaster
    deletions: DeletionQueue
    upload_folder: Path
    work_folders: tuple[Path, ...] = ()
    uploads: dict[str, Model] = field(default_factory=dict)


def get_app_state(request: Request) -> AppState:
    found: AppState = request.app.state.app_state
    return found
