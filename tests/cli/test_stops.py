"""Ctrl-C, SIGTERM and SIGHUP during a measurement, and closed output streams."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.cli.rendering.streams import ClosableStream
from tests.cli.calling import HEEDING, Call

COMMAND = [sys.executable, "-c", f"{HEEDING}; from edgewright.cli import main; main()"]
LONG = ("benchmark", "m.pretend", "--processes", "1", "--runs", "1000000", "-p", "latency_us=5000", "--no-layers")


def start_long() -> subprocess.Popen[bytes]:
    """Start a benchmark that would run for more than an hour, and wait for its first progress message."""
    process = subprocess.Popen([*COMMAND, *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert b"process 1" in process.stderr.readline()
    return process


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")]
)
def test_what_was_measured_is_kept(call: Call, number: signal.Signals, name: str) -> None:
    process = start_long()
    process.send_signal(number)
    process.send_signal(number)  # a second signal must not lose measurements
    try:
        _, said = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 128 + number, said
    assert f"topped by {name}" in said.decode()
    assert b"Traceback" not in said
    assert [row["state"] for row in call("runs", "list").rows()] == ["cancelled"]


def test_one_that_the_shell_ignores_stays_ignored(folder: Path) -> None:
    script = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "from edgewright.cli.interrupts import watch_interrupts; watch_interrupts(); "
        "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, signal.getsignal(signal.SIGTERM).__name__)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert result.stdout == "True _remember\n"


def test_the_third_ends_the_process_at_once(folder: Path) -> None:
    script = (
        f"import os; {HEEDING}\n"
        "from edgewright.cli.interrupts import watch_interrupts\n"
        "watch_interrupts()\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('never', flush=True)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "still here\n", "")


def test_a_stream_without_a_reader_takes_everything() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        patient = ClosableStream(stream)
        for _ in range(3):
            assert patient.write("text") == 4
            patient.flush()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_no_reader_that_left() -> None:
    stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115 - leaving a block would fail too
    patient = ClosableStream(stream)
    patient.write("text")
    with pytest.raises(OSError) as failure:
        patient.flush()
    assert failure.value.errno == errno.ENOSPC
    with pytest.raises(OSError):
        stream.close()
