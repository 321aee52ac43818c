"""Projects for apps: what `edgewright package` calls."""

from collections.abc import Callable

from edgewright.flows.packages import PackageReport, PackageRequest, generate_project

__all__ = ["PackageRequest", "make_package"]


def _ignore(line: str) -> None:
    """Take a progress line."""


def make_package(request: PackageRequest, progress: Callable[[str], None] = _ignore) -> PackageReport:
    """Generate a project that runs an artifact, with the task's preprocessing, and golden vectors that prove it.

    Args:
        progress: called with one line of text at each step.

    Raises as `generate_project`.
    """
    return generate_project(request, progress)
