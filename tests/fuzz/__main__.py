"""The fuzzer: `python -m tests.fuzz` runs many cases, `python -m tests.fuzz --case onnx:123` one, and shows it."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.cases import KINDS, choose_cases, make_case

# Before the product is imported: no dependency may report anything from thousands of processes.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
COUNT = 16_000
PROGRESS_S = 20.0


def main() -> int:
    """Run the fuzzer and return its exit code: 0 where all cases passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Run mutated files through Edgewright.")
    parser.add_argument("--cases", type=int, default=COUNT, help=f"number of cases of all kinds; default: {COUNT}")
    parser.add_argument("--start", type=int, default=0, help="number of the first case of each kind; default: 0")
    parser.add_argument("--kinds", default=",".join(KINDS), help="only these of the chosen cases, comma-separated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cases at once; default: all processors")
    parser.add_argument("--case", metavar="KIND:NUMBER", help="run one case, keep its files and show its faults")
    asked = parser.parse_args()
    if sys.platform != "linux":
        print("the fuzzer reads the memory of processes from /proc, which only Linux has")
        return 2
    from tests.fuzz.pool import load_product, write_seeds_apart

    load_product()
    with tempfile.TemporaryDirectory(prefix="edgewright-fuzz-") as name:
        work = Path(name)
        seeds = write_seeds_apart(work / "seeds")
        if asked.case:
            return show_case(asked.case, seeds, work)
        kinds = asked.kinds.split(",")
        cases = [case for case in choose_cases(asked.cases, asked.start) if case[0] in kinds]
        return run_all(cases, seeds, work, asked.jobs)


def run_all(cases: list[tuple[str, int]], seeds: Path, work: Path, jobs: int) -> int:
    from tests.fuzz.pool import run_cases

    begun, reported_s, failed, cpu_s = time.monotonic(), 0.0, 0, 0.0
    for count, outcome in enumerate(run_cases(cases, seeds, work, jobs), 1):
        cpu_s += outcome.cpu_s
        if outcome.faults:
            failed += 1
            print(f"FAILED {outcome.name} ({outcome.label[:200]})")
            for fault in outcome.faults:
                print("    " + fault.strip().replace("\n", "\n    "))
            print(f"    To reproduce it: python -m tests.fuzz --case {outcome.name}", flush=True)
        elapsed = time.monotonic() - begun
        if elapsed - reported_s > PROGRESS_S:
            reported_s = elapsed
            print(f"{count} of {len(cases)} cases, {failed} failed, {elapsed:.0f} s", flush=True)
    print(f"{time.monotonic() - begun:.0f} s on {jobs} processors")
    print(f"{len(cases) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def show_case(name: str, seeds: Path, work: Path) -> int:
    """Run one case; its files stay in a folder that is printed."""

    kind, number = name.split(":")
    case = make_case(kind, int(number), seeds)
    kept = Path(tempfile.mkdtemp(prefix=f"edgewright-fuzz-{kind}-{number}-"))
    for path, data in case.files.items():
        (kept / path).parent.mkdir(parents=True, exist_ok=True)
        (kept / path).write_bytes(data)
    print(f"{case.label}\nfiles: {kept}")
    for words in case.commands:
        print(f"    {' '.join(words)}")
    return run_all([(kind, int(number))], seeds, work, 1)


if __name__ == "__main__":
    sys.exit(main())
