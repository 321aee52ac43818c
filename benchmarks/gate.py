"""How often `edgewright gate` fails a model that became 10 % slower, and passes an equal one.

Each trial is one check of the goal `latency<=1.05x` of ResNet-8 for eight images, interleaved with the baseline's
model. The slower model is the same file in `slowed_worker.py`. Trials of both kinds alternate. Each trial is one line
of the file, and a later call adds those that are missing.
"""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.measuring import describe_machine, find_model
from benchmarks.verdicts import TITLES, HalfSlowed
from edgewright.devices.local import LocalDevice
from edgewright.devices.protocol import Device
from edgewright.flows.gate.baseline import GateOptions, read_baseline
from edgewright.flows.gate.flow import check_gate, record_baseline
from edgewright.flows.gate.plan import GateRequest, complete_request
from edgewright.flows.workspace import Workspace
from edgewright.store.store import open_store

GOAL = "latency<=1.05x"
OPTIONS = GateOptions(shape={"x": (8, 3, 32, 32)}, processes=8)
DEVICES = {"same": LocalDevice, "slower": HalfSlowed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="JSON lines, one per trial")
    parser.add_argument("--trials", type=int, default=40, help="of each kind; 0 prints the summary of the file")
    arguments = parser.parse_args()
    rows = read_trials(arguments.file)
    counts = Counter(str(row["kind"]) for row in rows)
    missing = [name for number in range(arguments.trials) for name in DEVICES if number >= counts[name]]
    if missing:
        print(describe_machine(), file=sys.stderr)
        add_trials(missing, arguments.file)
    for name, title in TITLES.items():
        summarize(title, [row for row in read_trials(arguments.file) if row["kind"] == name])


def read_trials(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add_trials(kinds: list[str], file: Path) -> None:
    """Run one trial of each kind, and append its result to the file."""
    with TemporaryDirectory() as home, open_store(Path(home)) as store:
        path = Path(home) / "baseline.json"
        devices: dict[str, Device] = {name: device() for name, device in DEVICES.items()}
        workspaces = {name: Workspace(device, store, lambda text: None) for name, device in devices.items()}
        request = GateRequest(model=str(find_model()), baseline=path, goals=GOAL, options=OPTIONS)
        record_baseline(complete_request(request._replace(write=True), None), workspaces["same"])
        plan = complete_request(request, read_baseline(path)).plan
        for kind in kinds:
            began = perf_counter()
            report = check_gate(plan, workspaces[kind]).report
            (check,) = report.checks
            row = {"kind": kind, "model": find_model().name, "state": check.state, "value": check.value}
            row |= {"low": check.low, "high": check.high, "confidence": check.confidence}
            row |= {"runs": len(report.runs), "seconds": perf_counter() - began, "load": os.getloadavg()[0]}
            with file.open("a") as stream:
                print(json.dumps(row), file=stream)
            print(row, file=sys.stderr, flush=True)
        for device in devices.values():
            device.close()


def summarize(title: str, rows: list[dict[str, object]]) -> None:
    if not rows:
        return
    states = Counter(str(row["state"]) for row in rows)
    seconds = sorted(float(str(row["seconds"])) for row in rows)
    loads = sorted(float(str(row["load"])) for row in rows)
    widths = sorted(float(str(row["high"])) - float(str(row["low"])) for row in rows if row["low"] is not None)
    print(
        f"{title}: fails {states['missed']} of {len(rows)}; {dict(states)}; "
        f"width of the interval: median {widths[len(widths) // 2]:.4f}, widest {widths[-1]:.4f}; "
        f"more than one session: {sum(int(str(row['runs'])) > 2 for row in rows)}; "
        f"seconds a check: median {seconds[len(seconds) // 2]:.1f}, longest {seconds[-1]:.1f}; "
        f"load average from {loads[0]:.1f} to {loads[-1]:.1f}"
    )


if __name__ == "__main__":
    main()
