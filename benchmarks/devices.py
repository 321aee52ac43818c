"""A board over SSH beside this machine: CPU time of the same model, and the time of a connection with a worker.

Meant for an address that is this machine (sshd on loopback): then both run on the same processor, and the ratio of
their times shows what the way to the device costs. The workers of a repeat are loaded side by side and sampled
alternately.
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks.measuring import describe_machine
from edgewright.bench.feeds import write_feeds
from edgewright.devices import ssh
from edgewright.devices.kinds import DeviceContext
from edgewright.devices.local import LocalDevice
from edgewright.devices.protocol import Device
from edgewright.formats.files import hash_file
from edgewright.runtimes.wire import Open, Opened, SessionRequest, TimeRuns, Times
from edgewright.schema.devices import RegisteredDevice
from edgewright.store.location import find_home
from edgewright.system.temporary import TemporaryFolder

LOW, HIGH = 0.97, 1.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="such as ssh://root@127.0.0.1:2222")
    parser.add_argument("--key", default="")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--input", default="image", help="name of the only input")
    parser.add_argument("--shape", default="1,1,8,8")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--starts", type=int, default=9)
    arguments = parser.parse_args()
    print(describe_machine())
    context = DeviceContext(find_home(), print)
    row = RegisteredDevice(name="board", kind="ssh", address=arguments.address, credential=arguments.key, added_at="")
    row = ssh.prepare(row, context)
    with TemporaryFolder() as folder:
        compare_times(arguments, row, context, folder)
        time_starts(arguments, row, context, folder)


def compare_times(arguments: argparse.Namespace, row: RegisteredDevice, context: DeviceContext, folder: Path) -> None:
    feeds = folder / "feeds.npz"
    shape = [int(size) for size in arguments.shape.split(",")]
    write_feeds(feeds, {arguments.input: np.random.default_rng(0).normal(size=shape).astype(np.float32)})
    local, board = LocalDevice(), ssh.connect(row, context)
    board.prepare("onnxruntime")
    ratios = [measure_ratio(local, board, arguments, feeds) for _ in range(arguments.repeats)]
    inside = sum(LOW <= ratio <= HIGH for ratio in ratios)
    print("CPU time of the board / of this machine, medians:", ", ".join(f"{ratio:.3f}" for ratio in ratios))
    print(f"{inside} of {len(ratios)} repeats within {LOW} to {HIGH}")
    local.close()
    board.close()


def measure_ratio(local: Device, board: Device, arguments: argparse.Namespace, feeds: Path) -> float:
    times: list[list[int]] = [[], []]
    log = feeds.with_name("log")
    with (
        local.start_worker("onnxruntime", (), 60, log) as here,
        board.start_worker("onnxruntime", (), 60, log) as there,
    ):
        for device, worker in ((local, here), (board, there)):
            model = device.push(arguments.model, hash_file(arguments.model))
            request = SessionRequest(model=model)
            worker.ask(Open(session=request, feeds=device.push(feeds, hash_file(feeds))), Opened)
            worker.ask(TimeRuns(runs=500, seconds=1), Times)
        for number in range(arguments.rounds):
            for position in (0, 1) if number % 2 == 0 else (1, 0):
                answer = (here, there)[position].ask(TimeRuns(runs=300, seconds=1, settle=2), Times)
                times[position] += answer.cpu_ns
    return median(times[1]) / median(times[0])


def time_starts(arguments: argparse.Namespace, row: RegisteredDevice, context: DeviceContext, folder: Path) -> None:
    """Time connection, start of a worker, and its greeting on a prepared device, without the runtime's import."""
    seconds = []
    for _ in range(arguments.starts):
        began = perf_counter()
        device = ssh.connect(row, context)
        with device.start_worker("onnxruntime", (), 60, folder / "start.log") as worker:
            seconds.append(perf_counter() - began - worker.hello.import_us / 1e6)
            worker.leave()
        device.close()
    shown = ", ".join(f"{one:.2f}" for one in sorted(seconds))
    print(f"connection and start of a worker without the import: median {median(seconds):.2f} s ({shown})")


if __name__ == "__main__":
    main()
