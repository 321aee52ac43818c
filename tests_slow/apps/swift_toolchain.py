"""Debian's Swift compiler, in a small Debian of its own that `scripts/set_up_swift.sh` sets up."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path.home() / ".cache" / "edgewright-tests" / "swift"


def require_swift() -> None:
    """Skip the tests of a module with the reason if there is no compiler."""
    if not (ROOT / "usr/bin/swiftc").exists():
        pytest.skip("the Swift compiler is not set up: make test-apps", allow_module_level=True)
    if os.geteuid():
        pytest.skip("the Swift compiler runs in a chroot, which requires root", allow_module_level=True)
    probe = ("unshare", "-m", "mount", "--rbind", "/proc", str(ROOT / "proc"))
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("the Swift compiler requires /proc, which cannot be mounted here", allow_module_level=True)


class SwiftFolder:
    """A folder inside that Debian; `close` removes it."""

    def __init__(self, name: str) -> None:
        self.inner = f"/tmp/edgewright-{os.getpid()}-{name}"
        self.path = ROOT / self.inner.removeprefix("/")
        self.path.mkdir(parents=True)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, and return what it prints."""
        inside = f'cd {self.inner} && exec "$@"'
        enter = f"mount --rbind /proc {ROOT}/proc && exec chroot {ROOT} sh -c '{inside}' sh \"$@\""
        entered = ("unshare", "-m", "sh", "-c", enter, "sh", *command)  # the mount ends with the process
        return subprocess.run(entered, capture_output=True, text=True, check=False)

    def close(self) -> None:
        shutil.rmtree(self.path)
