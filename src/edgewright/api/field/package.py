"""Projects for apps: what `edgewright package` calls."""

import os
from collections.abc import Callable

from edgewright.flows.package_checks import check_project
from edgewright.flows.packages import PackageReport, PackageRequest, generate_project
from edgewright.packaging.contract import AppEngine
from edgewright.store.location import find_home

__all__ = ["PackageRequest", "check_project", "make_package"]


def _ignore(line: str) -> None:
    """Take a progress line."""


def make_package(request: PackageRequest, progress: Callable[[str], None] = _ignore) -> PackageReport:
    """Generate a project that runs an artifact, with the task's preprocessing, and golden vectors that prove it.

    Args:
        progress: called with one line of text at each step.

    Raises as `generate_project`.
    """
    return generate_project(request, progress, _find_measured)


def _find_measured(sha256: str) -> AppEngine | None:
    """Return threads and options of the newest measured run of a model on this store's devices; None without one."""
    from edgewright.api.settings import load_store_settings

    settings = load_store_settings(os.environ)
    if not settings.get("database_url") and not find_home(settings.get("home", "")).is_dir():
        return None  # nothing was stored, and nothing is created
    from edgewright.api.user_store import open_user_store
    from edgewright.store.runs.queries import RunFilter

    with open_user_store() as store:
        rows = store.list_runs(RunFilter(model_id=sha256, kind="benchmark", state="done", limit=1))
        plan = store.load(rows[0].id).plan if rows else {}
    candidates = [one for one in plan.get("candidates", ()) if one.get("model_sha256") == sha256]
    if not candidates:
        return None
    return AppEngine(threads=plan["threads"], options=dict(candidates[0]["options"]), measured=rows[0].id)
