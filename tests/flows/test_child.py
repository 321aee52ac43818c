"""A job in a separate process: its messages, its failures, and its idle timeout."""

from pathlib import Path

import pytest
from msgspec import Struct

from edgewright.errors import DataError, WorkerCrashed, WorkerTimeout
from edgewright.flows.child_process import run_job

WORDS = {
    "works": """
for done in (1, 2, 3):
    print('{"type":"step","stage":"walk","done":%d,"of":3}' % done, flush=True)
    time.sleep(0.4)
print('{"type":"finished"}', flush=True)
""",
    "fails": """print('{"type":"trouble","kind":"DataError","what":"no","why":"so","try_this":"else"}', flush=True)""",
    "dies": "sys.exit(7)",
    "waits": "time.sleep(600)",
    "shows": """
import os
print('{"type":"step","stage":"%s","done":1,"of":1}' % os.environ.get("GLIBC_TUNABLES"), flush=True)
print('{"type":"finished"}', flush=True)
""",
}


class Nothing(Struct):
    pass


@pytest.fixture(autouse=True)
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in WORDS.items():
        (tmp_path / f"worker_{name}.py").write_text(f"import sys, time\n{code}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_job_that_reports_progress_outlives_the_idle_timeout(tmp_path: Path) -> None:
    lines: list[str] = []
    run_job("worker_works", Nothing(), tmp_path, lines.append, title="the job", idle_timeout_s=60)
    assert [line.partition(",")[0] for line in lines] == ["walk: 1 of 3", "walk: 2 of 3", "walk: 3 of 3"]


def test_its_own_error_is_raised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no") as caught:
        run_job("worker_fails", Nothing(), tmp_path, lambda _: None, title="the job")
    assert caught.value.try_this == "else"


def test_a_crash_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashed, match=r"the job exited with code 7"):
        run_job("worker_dies", Nothing(), tmp_path, lambda _: None, title="the job")


def test_silence_ends_it(tmp_path: Path) -> None:
    with pytest.raises(WorkerTimeout, match=r"the job sent no progress for 0\.5 s"):
        run_job("worker_waits", Nothing(), tmp_path, lambda _: None, title="the job", idle_timeout_s=0.5)


@pytest.mark.parametrize(
    ("own", "given"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=1", "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_memory_of_a_job_lies_in_huge_pages(
    own: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", own)
    lines: list[str] = []
    run_job("worker_shows", Nothing(), tmp_path, lines.append, title="the job")
    assert lines[0].startswith(f"{given}: 1 of 1")
