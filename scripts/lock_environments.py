"""Resolve the locks of the isolated environments anew: `python scripts/lock_environments.py [NAME…]`.

For each environment of `runtimes/environments.py` pip resolves what the table wants, in a fresh environment and
without installing it (`pip install --dry-run --report`, pip's installation report, version 1), and the whole closure is
written to `src/edgewright/runtimes/locks/NAME.txt`.

A lock holds exact versions and no hashes of wheels: one version has another wheel for each system, and a
lock with the hashes of one would reject all others. The installed files are in the environment's own
record, which keeps the hash of each wheel.

Locks are resolved on Linux x86-64 with CPython 3.11; they are installed without resolving, and `pip check` shows where
another system wants more.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from edgewright.runtimes.environments import (
    ENVIRONMENTS,
    TORCH_INDEX,
    find_environment,
    get_lock_path,
    get_python_path,
    select_cpu_build,
)

HEADER = """\
# Made by scripts/lock_environments.py on {where}
# from {requirements}
"""


def main(words: Sequence[str]) -> None:
    for word in words or list(ENVIRONMENTS):
        name = find_environment(word).name
        with TemporaryDirectory() as folder:
            lines = resolve(name, Path(folder))
        get_lock_path(name).write_text(head(name) + "\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(lines)} packages", file=sys.stderr)


def head(name: str) -> str:
    where = f"{platform.system()} {platform.machine()}, Python {sys.version_info.major}.{sys.version_info.minor}"
    return HEADER.format(where=where, requirements=" ".join(ENVIRONMENTS[name].requirements))


def resolve(name: str, folder: Path) -> list[str]:
    """The closure as `name==version`, sorted; a local version such as `+cpu` is left out."""
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    report = folder / "report.json"
    requirements = [select_cpu_build(want) for want in ENVIRONMENTS[name].requirements]
    command = [
        str(get_python_path(folder / "env")),
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
    ]
    command += ["--report", str(report), *requirements]
    if subprocess.run(command).returncode:  # the indexes that pip is set to may lack torch without CUDA
        subprocess.run([*command, "--extra-index-url", TORCH_INDEX], check=True)
    packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    return sorted((f"{one['name']}=={one['version'].partition('+')[0]}" for one in packages), key=str.lower)


if __name__ == "__main__":
    main(sys.argv[1:])
