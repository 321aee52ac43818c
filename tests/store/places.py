"""Where a test's store lies, and how a child process opens it."""

import subprocess
import sys
from pathlib import Path

from msgspec import Struct

from tests.paths import ROOT


class Place(Struct, frozen=True, kw_only=True):
    """What `open_store` is given."""

    home: Path
    database_url: str | None


_CHILD = """
import os, signal, sys
from pathlib import Path
from msgspec.structs import replace
from sqlalchemy import event
from edgewright.store.store import open_store
from tests.contracts.sample_runs import begun_run, finished_run
home, url, *words = sys.argv[1:]
store = open_store(Path(home), url or None, busy_timeout_s=30)
"""


def start_child(place: Place, body: str, *words: str) -> subprocess.Popen[str]:
    """Run `body` in a process of its own, with `store` open, and `words` beside it."""
    arguments = [str(place.home), place.database_url or "", *words]
    root = ROOT
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", _CHILD + body, *arguments],
        cwd=root,
        env={"PYTHONPATH": f"{root / 'src'}:{root}", "PATH": ""},
        stdout=subprocess.PIPE,
        text=True,
    )
