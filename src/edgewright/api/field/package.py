"""Projects for apps: what `edgewright package` calls."""

import os
from collections.abc import Callable

from edgewright.flows.package_checks import check_project
from edgewright.flows.packages import PackageReport, PackageRequest, StoredModels, generate_project
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
    return generate_project(request, progress, StoredModels(_find_measured, _list_paths))


def _has_store() -> bool:
    from edgewright.api.settings import load_store_settings

    settings = load_store_settings(os.environ)
    return bool(settings.get("database_url")) or find_home(settings.get("home", "")).is_dir()


def _find_measured(sha256: str) -> AppEngine | None:
    """Return threads and options of the newest measured run of a model on this store's devices; None without one."""
    if not _has_store():
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


def _list_paths(sha256: str) -> list[str]:
    """Return where a model was when it was used, by the store's runs, the newest first."""
    if not _has_store():
        return []
    from edgewright.api.user_store import open_user_store
    from edgewright.store.runs.queries import RunFilter

    with open_user_store() as store:
        models = [store.load(row.id).model for row in store.list_runs(RunFilter(model_id=sha256, limit=5))]
    return [model.path for model in models if model is not None]
