"""Whether the guardian restores everything after SIGKILL at random moments.

    python -m benchmarks.guardian [--kills 100] [--seed 0] [--json]

Each kill hits a process that keeps changing files of an injected tree of /sys and of a cgroup, and the nice value and
affinity of another process. Then all of them are compared with what was there before, the files byte for byte.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from edgewright.adaptive.guardian import Guardian

FILES = {
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": b"schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": b"300000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": b"2400000\n",
    "sys/fs/cgroup/app/memory.max": b"max\n",
    "sys/fs/cgroup/app/cpu.max": b"max 100000\n",
}
LONGEST_S = 60.0


def keep_changing(root: Path, other: int) -> None:
    """Change all settings again and again."""
    cpu = min(os.sched_getaffinity(0))
    with Guardian(root / "journals") as guardian:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        number = 0
        while True:
            for name in FILES:
                guardian.write(root / name, str(number := number + 1).encode())
            guardian.set_nice(other, number % 5)
            guardian.set_affinity(other, [cpu])


def try_once(root: Path, delay_s: float) -> bool:
    """Return whether all is as before after one kill."""
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        before = os.sched_getaffinity(other.pid), os.getpriority(os.PRIO_PROCESS, other.pid)
        command = [sys.executable, "-m", "benchmarks.guardian", "--change", str(root), "--other", str(other.pid)]
        owner = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert owner.stdout is not None
        owner.stdout.readline()
        time.sleep(delay_s)
        owner.kill()
        owner.wait()
        owner.stdout.close()
        end = time.monotonic() + LONGEST_S
        while any((root / "journals").glob("*.journal")) and time.monotonic() < end:
            time.sleep(0.002)
        after = os.sched_getaffinity(other.pid), os.getpriority(os.PRIO_PROCESS, other.pid)
        return before == after and all((root / name).read_bytes() == content for name, content in FILES.items())
    finally:
        other.kill()
        other.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--change", type=Path)
    parser.add_argument("--other", type=int)
    given = parser.parse_args()
    if given.change:
        keep_changing(given.change, given.other)
        return
    delays, restored = random.Random(given.seed), 0
    for _ in range(given.kills):
        with TemporaryDirectory() as folder:
            restored += try_once(Path(folder), delays.uniform(0, 0.05))
    report = {"kills": given.kills, "restored": restored}
    print(json.dumps(report) if given.json else f"{restored} of {given.kills} restored")
    if restored < given.kills:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
