"""`package check`: what breaks in an app and can be seen without a device."""

from pathlib import Path

from msgspec import Struct

from edgewright.errors import EdgewrightError, GateFailed
from edgewright.packaging.inspection.checks import PackageCheck, PackagePart, check_package, measure_parts
from edgewright.packaging.inspection.files import open_package

HINT = "edgewright package writes a project again and keeps your changes; docs/packaging.md has each check"


class PackageCheckReport(Struct, frozen=True, kw_only=True):
    """The checks of a project, an APK or an AAB (edgewright.package-check/1), and the size of its parts."""

    schema: str = "edgewright.package-check/1"
    path: str
    kind: str
    checks: tuple[PackageCheck, ...]
    sizes: tuple[PackagePart, ...]
    answer: str


def check_project(path: str) -> tuple[PackageCheckReport, EdgewrightError | None]:
    """Return the report, and GateFailed if a check failed. Raises UsageError for what is no project."""
    with open_package(Path(path)) as package:
        checks, sizes = check_package(package), measure_parts(package)
    failed = [one for one in checks if one.state == "failed"]
    warnings = sum(one.state == "warning" for one in checks)
    word = "1 check" if len(failed) == 1 else f"{len(failed)} checks"
    report = PackageCheckReport(
        path=path,
        kind=package.kind,
        checks=checks,
        sizes=sizes,
        answer=f"{path}: {word} failed, {warnings} with a warning."
        if failed
        else f"{path} passes, warnings: {warnings}.",
    )
    if not failed:
        return report, None
    why = "\n".join(f"{one.code}: {one.text}" for one in failed)
    return report, GateFailed(f"{path} is not ready to ship", why, HINT)
