"""What the text of Gradle's files says: it is searched, not evaluated."""

import re
from collections.abc import Iterator

from edgewright.packaging.inspection.files import Package

_SUFFIXES = (".gradle", ".gradle.kts", "libs.versions.toml")
_MIN_SDK = re.compile(r"\bminSdk(?:Version)?\b\s*[=( ]\s*[\"']?(\d{1,3})\b")
_NO_COMPRESS = re.compile(r"noCompress\b[^\n]*")


def find_min_sdk(package: Package) -> int | None:
    """Return the smallest `minSdk` of the build files; None without one."""
    levels = [int(found) for text in _read_texts(package) for found in _MIN_SDK.findall(text)]
    return min(levels, default=None)


def is_stored(package: Package, suffix: str) -> bool:
    """Return whether a build file lists the suffix as one that the APK does not compress."""
    lines = [line for text in _read_texts(package) for line in _NO_COMPRESS.findall(text)]
    return any(re.search(rf"[\"']\.?{re.escape(suffix)}[\"']", line) for line in lines)


def _read_texts(package: Package) -> Iterator[str]:
    for name in package.files:
        if name.endswith(_SUFFIXES):
            yield package.read(name).decode("utf-8", "replace")
