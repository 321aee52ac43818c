"""Run the test targets of the Makefile as continuous integration does, and sum up their results.

`make test` always runs. A target of SLOW runs if the files it depends on differ from those of its last pass on this
machine, and only in the first 40 minutes. A target that takes longer than its limit is ended and counts as a failure.
Up to MOST_RERUN tests that failed are run once more, by themselves: one that passes then is named in a note, since it
fails at times, and counts as passed. The last line is `N passed, N failed, N skipped` over all of them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "ci"
PASSED = Path.home() / ".cache" / "edgewright-tests" / "passed"
LAST_START_S = 40 * 60
LIMIT_S = 30 * 60
MOST_RERUN = 5  # more failures than this are not chance
TIMED_OUT = 124  # as coreutils' timeout
SUMMARY_S = 60  # how long pytest may take for its summary after it was interrupted
# The files that each slow target depends on; a folder stands for all that is in it.
SLOW: dict[str, tuple[str, ...]] = {
    "test-slow": ("src", "tests", "tests_slow", "pyproject.toml", "Makefile"),
    "test-kernels": ("src/edgewright/kernels", "tests_slow/kernels", "scripts/set_up_qemu.sh"),
    "test-devices": ("src/edgewright/devices", "src/edgewright/web/browsers", "tests/web/browsers"),
}


class Counts(NamedTuple):
    """Results of one target."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0


def main() -> int:
    began = time.monotonic()
    RESULTS.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    results = [run_target("test", notes)]
    for target, sources in SLOW.items():
        mark = PASSED / f"{target}-{hash_sources(sources)}"
        if mark.exists():
            notes.append(f"{target} was not run: it passed here before with the same sources")
        elif time.monotonic() - began > LAST_START_S:
            notes.append(f"{target} was not run: {LAST_START_S // 60} minutes are over. Run `make {target}`")
        else:
            results.append(run_target(target, notes))
            if results[-1].failed == 0:
                PASSED.mkdir(parents=True, exist_ok=True)
                mark.touch()
    for note in notes:
        print(f"==> {note}")
    total = Counts(*(sum(column) for column in zip(*results, strict=True)))
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped", flush=True)
    return 1 if total.failed else 0


def run_target(target: str, notes: list[str]) -> Counts:
    """Run one target; a target that fails without a failed test (lint, set-up, limit) counts as one failure."""
    report = RESULTS / f"{target}.xml"
    code = run_make(target, report)
    counts = read_counts(report) if report.is_file() else Counts()
    if not code:
        return counts
    if code != TIMED_OUT and 0 < counts.failed <= MOST_RERUN:
        names = read_failures(report)
        again = RESULTS / f"{target}-again.xml"
        if run_make(target, again, "--last-failed", "--last-failed-no-failures=none") == 0:
            notes.append(f"{target}: failed at first, passed by themselves: {', '.join(names)}")
            return counts._replace(passed=counts.passed + counts.failed, failed=0)
    return counts._replace(failed=max(counts.failed, 1))


def run_make(target: str, report: Path, *options: str) -> int:
    """Run a target of the Makefile with a JUnit report; its exit code, TIMED_OUT if it takes too long."""
    report.unlink(missing_ok=True)
    print(" ".join(("==> make", target, *options)), flush=True)
    command = ["make", target, f"PYTEST_OPTIONS=--junitxml={report} {' '.join(options)}"]
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        try:
            return process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            print(f"==> make {target} did not end within {LIMIT_S // 60} minutes", flush=True)
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(SUMMARY_S)
            return TIMED_OUT
        finally:
            kill_group(process.pid)


def kill_group(group: int) -> None:
    """End what is left of a target's processes."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def read_counts(report: Path) -> Counts:
    """The results in a JUnit report of pytest."""
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, skipped = (sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "skipped"))
    failed = sum(int(suite.get(name, "0")) for suite in suites for name in ("failures", "errors"))
    return Counts(passed=total - failed - skipped, failed=failed, skipped=skipped)


def read_failures(report: Path) -> list[str]:
    """The names of the tests that failed, from a JUnit report of pytest."""
    cases = ElementTree.parse(report).getroot().iter("testcase")
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return sorted({f"{case.get('classname')}.{case.get('name')}" for case in failed})


def hash_sources(sources: Sequence[str]) -> str:
    """A hash of the tracked files below `sources`, of their names and contents."""
    listed = subprocess.run(["git", "ls-files", "-z", "--", *sources], cwd=ROOT, capture_output=True, check=True)
    digest = sha256()
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        digest.update(f"{name}\0{sha256(path.read_bytes()).hexdigest() if path.is_file() else ''}\n".encode())
    return digest.hexdigest()[:20]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the target's processes on the way
    sys.exit(main())
