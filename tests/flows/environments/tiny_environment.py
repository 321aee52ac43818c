"""Environment for tests: the pretend runtime with the installed versions of msgspec and numpy."""

from importlib.metadata import version
from pathlib import Path

import pytest

from edgewright.runtimes import environments
from edgewright.runtimes.environments import ENVIRONMENTS, Environment

PACKAGES = ("msgspec", "numpy")


def declare_tiny(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Add `tiny` to the table, with its lock file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.txt").write_text("".join(f"{name}=={version(name)}\n" for name in PACKAGES))
    tiny = Environment(name="tiny", runtime="pretend", purpose="tests", requirements=(), megabytes=120)
    patch.setattr(environments, "LOCKS", folder)
    for name in list(ENVIRONMENTS):
        patch.delitem(ENVIRONMENTS, name)
    patch.setitem(ENVIRONMENTS, "tiny", tiny)
