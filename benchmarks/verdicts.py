"""Rate of false verdicts, and detection of a difference of 10 %.

Compares a model with itself, and with itself made 10 % slower (`slowed_worker.py`), each many times, through the same
flow and with the same defaults as `edgewright benchmark A B`.

The peer is a careful script: one process of each, samples treated as independent, Wilcoxon's rank sum with the same
confidence and threshold. It evaluates the first round of the same sessions.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from math import exp, log
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from types import MappingProxyType

from benchmarks.measuring import describe_machine, find_model
from edgewright.bench.statistics import shift_interval
from edgewright.bench.verdict import CONFIDENCE, decide_verdict
from edgewright.devices.connection import Connection
from edgewright.devices.local import WORKER, LocalDevice
from edgewright.flows.benchmark.flow import benchmark
from edgewright.flows.workspace import Workspace
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.schema.run import Comparison, Run
from edgewright.store.store import open_store

SLOWED = ("-P", str(Path(__file__).with_name("slowed_worker.py")))
TITLES = {"same": "the model against itself", "slower": "against itself, 10 % slower"}


class HalfSlowed(LocalDevice):
    """The local device, with the slowed worker for the second candidate."""

    def start_worker(
        self,
        runtime: str,
        affinity: Sequence[int],
        timeout_s: float,
        log: Path,
        environment: str = "",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Connection:
        self._worker = SLOWED if log.name.startswith("1-") else WORKER
        return super().start_worker(runtime, affinity, timeout_s, log, environment, variables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=40)
    parser.add_argument("--only", choices=["same", "slower"], action="append", help="only this half")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = find_model()
    plan = BenchmarkPlan(candidates=(Candidate(model=str(model), runtime="onnxruntime"),) * 2)
    devices = {"same": LocalDevice, "slower": HalfSlowed}
    results = {
        TITLES[name]: compare_often(plan, devices[name](), arguments.comparisons) for name in arguments.only or devices
    }
    if arguments.json:
        print(json.dumps({"machine": describe_machine(), "results": results}))
        return
    print(describe_machine())
    for name, rows in results.items():
        report(name, rows)


def compare_often(plan: BenchmarkPlan, device: LocalDevice, times: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number in range(times):
        with TemporaryDirectory() as home, open_store(Path(home)) as store:
            began = perf_counter()
            outcome = benchmark(plan, Workspace(device, store, lambda text: None), {})
            seconds = perf_counter() - began
        comparison: Comparison = outcome.comparisons[0]
        row = {"verdict": comparison.verdict, "ratio": comparison.ratio, "low": comparison.low, "high": comparison.high}
        rows.append({**row, "seconds": seconds, "peer": decide_by_one_round(outcome.runs[0], outcome.runs[1])})
        print(f"{number + 1}/{times} {rows[-1]}", file=sys.stderr, flush=True)
    device.close()
    return rows


def decide_by_one_round(a: Run, b: Run) -> str:
    """Return the peer's verdict on the samples of one process of each."""
    return compare_samples(first_process(a), first_process(b))


def first_process(run: Run) -> list[float]:
    series = {row.name: row.data for row in run.series}
    return [log(sample) for sample in series["wall"][: int(series["wall.samples"][0])]]


def compare_samples(a: list[float], b: list[float]) -> str:
    interval = shift_interval(a, b, CONFIDENCE)
    if interval.low is None or interval.high is None:
        return "inconclusive"
    return decide_verdict(
        exp(interval.value), exp(interval.low), exp(interval.high), BenchmarkPlan(candidates=()).threshold
    )


def report(name: str, rows: Sequence[dict[str, object]]) -> None:
    counts = Counter(str(row["verdict"]) for row in rows)
    peers = Counter(str(row["peer"]) for row in rows)
    ratios = sorted(float(str(row["ratio"])) for row in rows)
    seconds = sorted(float(str(row["seconds"])) for row in rows)
    print(
        f"{name}: {dict(counts)} of {len(rows)}; ratio median {ratios[len(ratios) // 2]:.3f}, "
        f"from {ratios[0]:.3f} to {ratios[-1]:.3f}; seconds a comparison: median {seconds[len(seconds) // 2]:.1f}, "
        f"longest {seconds[-1]:.1f}; the peer says {dict(peers)}"
    )


if __name__ == "__main__":
    main()
