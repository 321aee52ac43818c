"""A private PostgreSQL server on a socket in a temporary folder; never the machine's own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_NO_PATIENCE = ["-c", "fsync=off", "-c", "listen_addresses="]


@contextmanager
def serve_postgres() -> Iterator[str]:
    """Serve until the block ends; gives a URL with {} for the database. Skips with the reason where it cannot."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'edgewright[postgres]'")
    programs, user = _find_programs(), _unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="edgewright-postgres-"))
    try:
        if user:
            shutil.chown(folder, user)
        data = str(folder / "data")
        # A pipe's or terminal's output would be kept open by the server: its words go to a file.
        with (folder / "log").open("wb") as log:
            make = [str(programs / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N"]
            subprocess.run(make, cwd=folder, stdout=log, stderr=log, user=user, check=True)
            serve = [str(programs / "postgres"), "-D", data, "-k", str(folder), *_NO_PATIENCE]
            server = subprocess.Popen(serve, cwd=folder, stdout=log, stderr=log, user=user)
        try:
            _wait_until_ready(folder, server)
            yield f"postgresql://postgres@/{{}}?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_programs() -> Path:
    """Debian keeps the server's programs out of PATH."""
    on_path = [Path(found).parent for found in [shutil.which("initdb")] if found]
    folders = [*on_path, *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    complete = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    if not complete:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    return complete[-1]


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _wait_until_ready(folder: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(600):
        with suppress(psycopg.OperationalError), psycopg.connect(f"host={folder} user=postgres"):
            return
        if server.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"PostgreSQL does not start: {(folder / 'log').read_text(errors='replace')[-2000:]}")
