"""The guardian restores settings at the end of its owner, however it ends; controls say what they applied."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.guardian import try_once
from edgewright.adaptive.controls import Controls, SystemControls, count_threads
from edgewright.adaptive.guardian import Guardian, restore, restore_left_behind

if not hasattr(os, "pidfd_open"):
    pytest.skip("this system has no pidfd", allow_module_level=True)

CPUFREQ = "sys/devices/system/cpu/cpufreq/policy0"


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A tree of /proc and /sys with two big and two little processors, of which number 1 is offline."""
    processors = "\n".join(f"processor : {one}\nCPU implementer : 0x41\nCPU part : 0x{part}\n" for one, part in PARTS)
    files = {
        "proc/cpuinfo": processors,
        "sys/devices/system/cpu/online": "0,2-3\n",
        f"{CPUFREQ}/scaling_governor": "schedutil\n",
        f"{CPUFREQ}/scaling_min_freq": "300000\n",
        "group/memory.max": "max\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


PARTS = ((0, "d0b"), (1, "d0b"), (2, "d05"), (3, "d05"))


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def test_a_killed_owner_leaves_everything_as_it_was(tmp_path: Path) -> None:
    assert try_once(tmp_path, 0.01)


def test_the_end_of_the_block_restores_the_first_value(board: Path) -> None:
    path = board / CPUFREQ / "scaling_governor"
    with Guardian(board / "journals") as guardian:
        guardian.write(path, b"performance")
        guardian.write(path, b"powersave")
        assert path.read_bytes() == b"powersave"
        with pytest.raises(FileNotFoundError):
            guardian.write(board / "absent", b"1")
    assert path.read_bytes() == b"schedutil\n"
    assert not list((board / "journals").iterdir())


def test_what_can_no_longer_be_restored_is_named(board: Path) -> None:
    path = board / CPUFREQ / "scaling_governor"
    guardian = Guardian(board / "journals")
    guardian.write(path, b"performance")
    path.unlink()
    assert guardian.close() == (f"{path}: No such file or directory",)
    assert guardian.close() == ()


def test_a_journal_that_outlives_owner_and_guardian_is_restored_at_the_next_start(board: Path) -> None:
    path, folder = board / CPUFREQ / "scaling_governor", board / "journals"
    script = f"""
import os, signal
from pathlib import Path
from edgewright.adaptive.guardian import Guardian
guardian = Guardian(Path({str(folder)!r}))
guardian.write(Path({str(path)!r}), b"performance")
os.kill(guardian._process.pid, signal.SIGKILL)
os.waitpid(guardian._process.pid, 0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert path.read_bytes() == b"performance"
    (journal,) = folder.iterdir()
    with journal.open("ab") as file:
        file.write(b'{"kind": "file", "pa')  # the entry that was being written
    Guardian(folder).close()
    assert path.read_bytes() == b"schedutil\n"
    assert not list(folder.iterdir())


def test_journals_of_another_boot_are_not_restored(board: Path) -> None:
    path, folder = board / CPUFREQ / "scaling_governor", board / "journals"
    folder.mkdir()
    entry = f'{{"kind": "file", "path": "{path}", "old": "eA=="}}'
    (folder / "1.journal").write_text(f'{{"boot": "another", "owner": 1, "start": 0}}\n{entry}\n')
    restore_left_behind(folder)
    assert path.read_bytes() == b"schedutil\n"
    assert not list(folder.iterdir())


def test_a_process_that_took_over_a_number_keeps_its_settings(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    before, journal = os.sched_getaffinity(other.pid), tmp_path / "1.journal"
    journal.write_text(f'{{}}\n{{"kind": "affinity", "pid": {other.pid}, "start": 1, "old": [{min(before)}]}}\n')
    assert restore(journal) == ()
    assert os.sched_getaffinity(other.pid) == before


def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="can be written by others"):
        Guardian(tmp_path)


def test_a_nice_value_that_only_root_restores_is_not_changed(
    tmp_path: Path, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewright.adaptive.guardian.may_lower_nice", lambda _: False)
    with Guardian(tmp_path / "journals") as guardian, pytest.raises(PermissionError, match="only root"):
        guardian.set_nice(other.pid, 19)


def test_controls_say_what_they_applied(board: Path) -> None:
    affinity, wanted = (
        os.sched_getaffinity(0),
        Controls(
            cores="0-63",
            governor="performance",
            floor_khz=1_800_000,
            memory_bytes=1_000_000,
            cpu_share=0.3,
            group=str(board / "group"),
        ),
    )
    with Guardian(board / "journals") as guardian, SystemControls(wanted, guardian, board) as controls:
        found = {one.name: one for one in controls.applied}
        assert found["governor"].applied and found["floor_khz"].applied and found["memory_bytes"].applied
        assert (board / CPUFREQ / "scaling_min_freq").read_text() == "1800000"
        assert (board / "group/memory.max").read_text() == "1000000"
        assert not found["cpu_share"].applied and found["cpu_share"].why == "No such file or directory"
        assert not found["cores"].applied or os.sched_getaffinity(0) <= {0, 2, 3}
    assert (board / CPUFREQ / "scaling_min_freq").read_text() == "300000\n"
    assert (board / "group/memory.max").read_text() == "max\n"
    assert os.sched_getaffinity(0) == affinity


@pytest.mark.parametrize(
    ("controls", "why"),
    [
        (Controls(governor="performance"), "there is no guardian that restores it"),
        (Controls(cores="1"), "none of these processors is online"),
        (Controls(cores="fast"), "it is no list of processors"),
        (Controls(memory_bytes=1), "no cgroup of the app's own is named"),
        (Controls(realtime=1000), "Invalid argument"),
        (Controls(clamp=7.0), ""),
    ],
)
def test_a_control_that_is_not_possible_is_reported(board: Path, controls: Controls, why: str) -> None:
    with SystemControls(controls, None, board) as found:
        (one,) = found.applied
    assert not one.applied
    assert why in one.why and one.why


def test_threads_are_the_online_cores_of_the_fastest_cluster(board: Path) -> None:
    assert count_threads(board) == 1  # of 0 and 1, one is offline
    (board / "sys/devices/system/cpu/online").write_text("0-3\n")
    assert count_threads(board) == 2
    assert 1 <= count_threads() <= 4
