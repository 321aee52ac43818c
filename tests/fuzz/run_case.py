"""One case in a separate process: its folder, its commands in order, and the check.

case/deep/er/cwd    the current folder, with the case's files; `fifo`, `link.bin`, `linked/` lead out of it
case/victim         what no command may touch; nor may one add files elsewhere but in home, out and tmp
case/home out tmp   the record of runs, the output folder, the temporary folder
"""

import gc
import json
import os
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgewright.cli.app import run as run_command
from edgewright.errors import Cancelled, EdgewrightError
from edgewright.formats.artifacts import find_record
from edgewright.formats.files import check_files, sniff
from tests.error_classes import EXIT_CODES
from tests.fuzz import checks, forking
from tests.fuzz.cases import Case

INTERNAL = ("Edgewright failed with an internal error", "Traceback (most recent call last)")
MAY_CHANGE = ("home", "out", "tmp")
MOST_SHOWN = 1_500


def lay_out(case: Case, folder: Path, seeds: Path) -> None:
    """Write the folder of a case."""
    current = folder / "deep/er/cwd"
    for path in (current, folder / "victim", folder / "out", folder / "tmp", folder / "user"):
        path.mkdir(parents=True)
    (folder / "victim/keep.bin").write_bytes(bytes(64))
    for name, data in case.files.items():
        path = current / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    os.mkfifo(current / "fifo")
    (current / "link.bin").symlink_to("../../../victim/keep.bin")
    (current / "linked").symlink_to("../../../victim")
    if case.kind == "export":
        shutil.copytree(seeds / "home", folder / "home")


def run_whole_case(case: Case, folder: Path) -> None:
    """Run the commands of a prepared case in a forked process, and write the faults to `faults.json`."""
    gc.disable()
    for name in [name for name in os.environ if name.startswith("EDGEWRIGHT_")]:
        del os.environ[name]
    places = {"EDGEWRIGHT_HOME": "home", "TMPDIR": "tmp", "HOME": "user", "XDG_CONFIG_HOME": "user/.config",
              "XDG_CACHE_HOME": "user/.cache", forking.REPORT: "tmp/unhandled"}  # fmt: skip
    os.environ.update({name: str(folder / place) for name, place in places.items()})
    os.chdir(folder / "deep/er/cwd")
    before, runs = list_files(folder), list_runs(folder)
    faults = [fault for words in case.commands for fault in run_words(words, case, folder, list(runs))]
    unhandled = folder / "tmp/unhandled"
    if unhandled.exists():
        faults.append(f"a process of ours ended with\n{unhandled.read_text()[-MOST_SHOWN:]}")
    faults += [f"{name} was written, removed or changed" for name in compare_files(before, list_files(folder))]
    faults += [f"the good run {name} is gone or changed" for name in lost_runs(runs, list_runs(folder))]
    faults += check_output(folder / "out")
    (folder / "faults.json").write_text(json.dumps(faults))


def run_words(words: list[str], case: Case, folder: Path, good: list[str]) -> list[str]:
    """Run one command, or one check, and return what is wrong."""
    imported = next((name for name in list_runs(folder) if name not in good), "") if case.kind == "export" else ""
    if any("{run}" in word for word in words) and not imported:
        return []
    places = {"out": str(folder / "out"), "run": imported, "good": good[0] if good else ""}
    words = [word.format(**places) if "{" in word else word for word in words]
    for name in ("stdout", "stderr"):
        (folder / name).write_bytes(b"")
    try:
        with redirected(folder):
            if words[0] == ":pages":
                code = run_check(lambda: checks.pages(words[1], folder / "home", imported, places["good"]), imported)
            elif words[0].startswith(":"):
                code = run_check(lambda: checks.CHECKS[words[0][1:]](words[1]), "always")
            else:
                code = run_command(words)
    except checks.Fault as fault:
        return [f"{' '.join(words)[:200]}: {fault}"]
    except BaseException as error:
        return [f"{' '.join(words)[:200]}: {type(error).__name__}\n{traceback.format_exc()[-MOST_SHOWN:]}"]
    stderr = (folder / "stderr").read_text(errors="replace")
    if code not in EXIT_CODES - {Cancelled.exit_code} or any(text in stderr for text in INTERNAL):
        return [f"{' '.join(words)[:200]}: exit code {code}\n{stderr[-MOST_SHOWN:]}"]
    return []


def run_check(check: Callable[[], None], wanted: str) -> int:
    """Run a check; an error that is documented is no fault."""
    if not wanted:
        return 0
    try:
        check()
    except EdgewrightError as error:
        return error.exit_code
    return 0


class redirected:
    """Let descriptors 1 and 2, and what Python prints, go to files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        for place, name in ((1, "stdout"), (2, "stderr")):
            descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_APPEND)
            os.dup2(descriptor, place)
            os.close(descriptor)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()


def list_files(folder: Path) -> dict[str, str]:
    """Return a digest by path of what no command may change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] in (*MAY_CHANGE, "stdout", "stderr", "faults.json"):
            continue
        is_plain = path.is_file() and not path.is_symlink()
        found[name] = sha256(path.read_bytes()).hexdigest() if is_plain else "other"
    return found


def compare_files(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def list_runs(folder: Path) -> dict[str, Any]:
    """Return what the record of the home says of each run, by id."""
    path = folder / "home/edgewright.db"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as database:
        found = {row[0]: [row] for row in database.execute("SELECT * FROM run")}
        for table in ("metric", "series", "layer", "warning", "output"):
            for row in database.execute(f"SELECT * FROM {table} ORDER BY run_id, position"):
                found[row[0]].append(row)
    return found


def lost_runs(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name, run in before.items() if after.get(name) != run]


def check_output(folder: Path) -> list[str]:
    """Return the output files that are not whole."""
    faults = []
    for path in sorted(folder.rglob("*")):
        if path.name.startswith("."):
            faults.append(f"{path.name} is left in the output folder")
        elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
            faults.append(f"{path.name} is not whole")
        elif path.suffix == ".json" and path.is_file() and path.name != "report.json":
            try:
                json.loads(path.read_text())
            except (ValueError, RecursionError) as error:
                faults.append(f"{path.name} is no JSON: {error}")
        elif path.suffix in (".tflite", ".onnx") and path.is_file():
            faults += check_artifact(path)
    return faults


def check_artifact(path: Path) -> list[str]:
    try:
        sniff(path)
        record = find_record(path)
        if record is not None:
            check_files(path, record)
    except EdgewrightError as error:
        return [f"{path.name} is no whole artifact: {error}"]
    return []
