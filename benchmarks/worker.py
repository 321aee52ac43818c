"""Cost of a worker: one request with its response, and its start compared with a bare import of the same library."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns

from benchmarks.measuring import describe_machine, format_ratio
from edgewright.devices.local import LocalDevice
from edgewright.runtimes.wire import CommandDone, ReadMemory

DEVICE = LocalDevice()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=40)
    parser.add_argument("--questions", type=int, default=2000)
    arguments = parser.parse_args()
    print(describe_machine())
    times = time_questions(arguments.questions)
    tenth = sorted(times)[len(times) * 9 // 10]
    print(f"round trip of one question: median {median(times):.1f} µs, p90 {tenth:.1f} µs, {len(times)} questions")
    ours, bare = zip(*[(cpu_ms(start_worker), cpu_ms(import_bare)) for _ in range(arguments.starts)], strict=True)
    print(format_ratio("start a worker / python -c 'import onnxruntime', CPU ms", ours, bare))
    ours, bare = zip(*[(wall_ms(start_worker), wall_ms(import_bare)) for _ in range(arguments.starts)], strict=True)
    print(format_ratio("the same, wall ms", ours, bare))
    ours, bare = zip(
        *[(wall_ms(import_edgewright), wall_ms(start_python)) for _ in range(arguments.starts)], strict=True
    )
    print(format_ratio("import edgewright / an empty interpreter, wall ms", ours, bare))
    DEVICE.close()


def time_questions(count: int) -> list[float]:
    with DEVICE.start_worker("onnxruntime", (), 60, Path(DEVICE.workspace()) / "log") as worker:
        times = []
        for _ in range(count):
            begin = perf_counter_ns()
            worker.ask(ReadMemory(), CommandDone)
            times.append((perf_counter_ns() - begin) / 1e3)
    return times


def start_worker() -> None:
    """Start a worker, wait for its first message, and let it end."""
    with DEVICE.start_worker("onnxruntime", (), 60, Path(DEVICE.workspace()) / "log") as worker:
        worker.leave()


def import_bare() -> None:
    subprocess.run([sys.executable, "-P", "-c", "import onnxruntime"], check=True)


def import_edgewright() -> None:
    subprocess.run([sys.executable, "-P", "-c", "import edgewright"], check=True)


def start_python() -> None:
    subprocess.run([sys.executable, "-P", "-c", "pass"], check=True)


def wall_ms(act: Callable[[], None]) -> float:
    begin = perf_counter_ns()
    act()
    return (perf_counter_ns() - begin) / 1e6


def cpu_ms(act: Callable[[], None]) -> float:
    """Return the CPU time of the child processes of `act`."""
    before = os.times()
    act()
    after = os.times()
    return 1e3 * (after.children_user + after.children_system - before.children_user - before.children_system)


if __name__ == "__main__":
    main()
