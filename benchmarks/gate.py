"""How often `edgewright gate` fails a model that became 10 % slower, and passes an equal one.

Each trial is one check of the goal `latency<=1.05x` with the defaults of the command, interleaved with the baseline's
model. The slower model is the same file in `slowed_worker.py`.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.measuring import describe_machine, find_model
from benchmarks.verdicts import TITLES, HalfSlowed
from edgewright.devices.local import LocalDevice
from edgewright.flows.gate.baseline import read_baseline
from edgewright.flows.gate.flow import check_gate, record_baseline
from edgewright.flows.gate.plan import GateRequest, complete_request
from edgewright.flows.workspace import Workspace
from edgewright.store.store import open_store

GOAL = "latency<=1.05x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--only", choices=list(TITLES), action="append", help="only this half")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    devices = {"same": LocalDevice, "slower": HalfSlowed}
    results = {TITLES[name]: try_often(devices[name](), arguments.trials) for name in arguments.only or devices}
    if arguments.json:
        print(json.dumps({"machine": describe_machine(), "goal": GOAL, "results": results}))
        return
    print(describe_machine())
    for title, rows in results.items():
        states = Counter(str(row["state"]) for row in rows)
        seconds = sorted(float(str(row["seconds"])) for row in rows)
        passed = len(rows) - states["missed"]
        print(
            f"{title}: passes {passed} of {len(rows)} (--undecided pass), {states['met']} (--undecided fail); "
            f"{dict(states)}; seconds a check: median {seconds[len(seconds) // 2]:.1f}"
        )


def try_often(device: LocalDevice, times: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as home, open_store(Path(home)) as store:
        workspace = Workspace(device, store, lambda text: None)
        path = Path(home) / "baseline.json"
        request = GateRequest(model=str(find_model()), baseline=path, goals=GOAL)
        record_baseline(complete_request(request._replace(write=True), None), workspace)
        plan = complete_request(request, read_baseline(path)).plan
        for number in range(times):
            began = perf_counter()
            (check,) = check_gate(plan, workspace).report.checks
            row = {"state": check.state, "value": check.value, "low": check.low, "high": check.high}
            rows.append({**row, "seconds": perf_counter() - began})
            print(f"{number + 1}/{times} {rows[-1]}", file=sys.stderr, flush=True)
    device.close()
    return rows


if __name__ == "__main__":
    main()
