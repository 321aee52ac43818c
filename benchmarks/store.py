"""Speed and size of the store.

Fills a store with seeded runs through its public API and measures the waiting time of a user: `runs list` (inside this
process, and as a fresh process that opens the store, lists and prints), one run's detail, and the bytes on disk. The
peer, alternating with it, is one JSON file per run, read with the standard library.

    python benchmarks/store.py [--json] [--runs 10000] [--samples 1000] [--database-url URL]
"""

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgewright.schema.model import Model, Signature, TensorSpec
from edgewright.schema.run import DeviceRecord, Layer, Metric, Run, RunWarning, Series
from edgewright.store.runs.ids import IdGenerator
from edgewright.store.runs.queries import RunFilter
from edgewright.store.store import Store, open_store

SCHEMA = "edgewright.benchmark-store/1"
GOALS = {"list_s": 0.5, "detail_s": 0.05, "disk_mb": 150.0}
HEADLINE = ("latency.p50", "memory.peak")
BATCH = 500
LAYERS = 10
REPEATS = 7

_LIST_FRESH = """
import sys
from pathlib import Path
from edgewright.store.store import RunFilter, open_store
home, url, limit = sys.argv[1:]
with open_store(Path(home), url or None) as store:
    for row in store.list_runs(RunFilter(limit=int(limit) or None, metrics=("latency.p50", "memory.peak"))):
        print(row.id, row.started_at, row.model_name, row.runtime, row.metrics["latency.p50"].value, sep="\\t")
"""
_NAIVE_FRESH = """
import json, sys
from pathlib import Path
folder, _, limit = sys.argv[1:]
rows = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
rows.sort(key=lambda row: row["started_at"], reverse=True)
for row in rows[: int(limit) or None]:
    p50 = next(metric["value"] for metric in row["metrics"] if metric["name"] == "latency.p50")
    print(row["id"], row["started_at"], row["model"]["name"], row["runtime"], p50, sep="\\t")
"""


def make_runs(count: int, samples: int) -> Iterator[Run]:
    """Seeded runs: 20 models, 4 devices, two series' worth of metrics, some layers, one series of samples."""
    chance = random.Random(0)
    times = iter(range(1_700_000_000_000, 1_700_000_000_000 + count * 60_000, 60_000))
    make_id = IdGenerator(lambda: next(times), chance.getrandbits)
    return (make_run(number, make_id(), samples, chance) for number in range(count))


def make_run(number: int, run_id: str, samples: int, chance: random.Random) -> Run:
    """One finished run."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00", time.gmtime(1_700_000_000 + number * 60))
    data = tuple(6500.0 + chance.gammavariate(2, 60) for _ in range(samples))
    median = statistics.median(data)
    return Run(
        id=run_id,
        kind="benchmark",
        state="done",
        started_at=moment,
        finished_at=moment,
        model=make_model(number % 20),
        device=DeviceRecord(
            id=f"d{number % 4}", name=f"board {number % 4}", kind="ssh", address="", facts={"cores": 4}
        ),
        runtime=("onnxruntime", "litert")[number % 2],
        plan={"threads": 1, "processes": 10, "seconds": 0.3, "candidates": [{"model": "m.onnx", "options": {}}]},
        plan_hash=f"{number % 50:064x}",
        environment={"kernel": "6.1", "governor": "performance", "day": number // 1440},
        metrics=tuple(make_metric(name, median, samples) for name in METRICS),
        series=(Series(name="latency", unit="us", data=data),),
        layers=tuple(make_layer(position, median / LAYERS) for position in range(LAYERS)),
        warnings=(RunWarning(code="noisy", text="the samples scatter: close other programs and run again"),),
        tags={"branch": ("main", "dev")[number % 2]},
    )


METRICS = (
    *(f"latency.{name}" for name in ("p50", "p90", "p99", "mean", "stdev", "min", "max")),
    *(f"cpu_time.{name}" for name in ("p50", "p90", "mean")),
    *("cold_start.import", "cold_start.load", "cold_start.first_inference"),
    *("memory.before_load", "memory.after_load", "memory.peak", "memory.file"),
)


def make_model(number: int) -> Model:
    """One of the models."""
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 3, 224, 224))
    return Model(
        path=f"/models/net_{number}.onnx",
        name=f"net_{number}",
        format="onnx",
        sha256=f"{number:064x}",
        bytes=14_000_000,
        signature=Signature(inputs=(spec,), outputs=(spec,)),
        precision="fp32",
    )


def make_metric(name: str, value: float, n: int) -> Metric:
    """A metric with an interval."""
    return Metric(name=name, unit="us", value=value, low=value * 0.99, high=value * 1.01, n=n)


def make_layer(position: int, median_us: float) -> Layer:
    """A layer row."""
    return Layer(
        position=position,
        name=f"/features/{position}/conv",
        op="Conv",
        source_nodes=(f"/features/{position}/conv", f"/features/{position}/relu"),
        unit="CPU",
        backend="MLAS",
        evidence="measured",
        start_us=position * median_us,
        median_us=median_us,
        p90_us=median_us * 1.1,
    )


def fill(store: Store, folder: Path, count: int, samples: int) -> dict[str, Any]:
    """Write the same runs both ways; returns the seconds of each and one id from the middle."""
    seconds = {"store": 0.0, "naive": 0.0}
    batch: list[Run] = []
    middle = ""
    for number, run in enumerate(make_runs(count, samples)):
        batch.append(run)
        middle = run.id if number == count // 2 else middle
        if len(batch) == BATCH or number == count - 1:
            seconds["store"] += timed(lambda: store.record(batch))  # noqa: B023 - called at once
            seconds["naive"] += timed(lambda: write_naive(folder, batch))  # noqa: B023 - called at once
            batch = []
    return {"seconds": seconds, "middle": middle}


def write_naive(folder: Path, runs: list[Run]) -> None:
    """One JSON file per run."""
    for run in runs:
        (folder / f"{run.id}.json").write_text(json.dumps(msgspec.to_builtins(run)))


def list_naive(folder: Path) -> None:
    """What the naive design must do to list: read every file."""
    rows = [json.loads(path.read_text()) for path in folder.iterdir()]
    rows.sort(key=lambda row: row["started_at"], reverse=True)


def timed(act: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def run_fresh(script: str, place: Path, url: str | None, limit: int) -> Callable[[], object]:
    """A fresh interpreter that does the whole of a list, its output thrown away."""
    command = [sys.executable, "-c", script, str(place), url or "", str(limit)]
    return lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def median_of(acts: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of each, taken in turn, after one round that warms the caches."""
    rounds = [{name: timed(act) for name, act in acts.items()} for _ in range(repeats + 1)][1:]
    return {name: statistics.median(one[name] for one in rounds) for name in acts}


def disk_mb(folder: Path) -> float:
    """Return the megabytes of a folder's files on disk, in whole blocks if the system reports them."""
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(getattr(stat, "st_blocks", 0) * 512 or stat.st_size for stat in stats) / 1e6


def database_mb(store: Store, home: Path) -> float:
    """Size of the record: files of the home, or what PostgreSQL says."""
    if not store.database.is_postgres:
        return disk_mb(home)
    with store.database.reading("size") as connection:
        size = connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
    return float(size) / 1e6


def measure(count: int, samples: int, url: str | None) -> dict[str, Any]:
    """Everything, as one object."""
    with tempfile.TemporaryDirectory() as root:
        home, folder = Path(root) / "home", Path(root) / "naive"
        folder.mkdir()
        with open_store(home, url) as store:
            filled = fill(store, folder, count, samples)
        with open_store(home, url) as store:
            middle = filled["middle"]
            all_of_it = RunFilter(limit=None, metrics=HEADLINE)
            ours = median_of(
                {
                    "list, newest 50": lambda: store.list_runs(RunFilter(metrics=HEADLINE)),
                    "list, all": lambda: store.list_runs(all_of_it),
                    "list, all of one model and tag": lambda: store.list_runs(
                        msgspec.structs.replace(all_of_it, model="net_3", tags={"branch": "dev"})
                    ),
                    "one run's detail": lambda: store.load(middle),
                    "one run's detail, by the start of its id": lambda: store.load(middle[:9]),
                    "one series": lambda: store.load_series(middle, "latency"),
                    "open": lambda: open_store(home, url).close(),
                },
                3 * REPEATS,
            )
            naive = median_of(
                {
                    "list, all": lambda: list_naive(folder),
                    "one run's detail": lambda: json.loads((folder / f"{middle}.json").read_text()),
                },
                3,
            )
            size = {"store": database_mb(store, home), "naive": disk_mb(folder)}
        fresh = median_of(
            {
                "list, newest 50": run_fresh(_LIST_FRESH, home, url, 50),
                "list, all": run_fresh(_LIST_FRESH, home, url, 0),
                "naive list, all": run_fresh(_NAIVE_FRESH, folder, None, 0),
            },
            REPEATS,
        )
    return {
        "schema": SCHEMA,
        "machine": {
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "database": "PostgreSQL" if url else "SQLite",
        },
        "runs": count,
        "samples": samples,
        "fill_s": filled["seconds"],
        "in_process_s": ours,
        "naive_in_process_s": naive,
        "fresh_process_s": fresh,
        "disk_mb": size,
        "goals": GOALS,
        "reached": {
            "list_s": fresh["list, all"] < GOALS["list_s"],
            "detail_s": ours["one run's detail"] < GOALS["detail_s"],
            "disk_mb": size["store"] < GOALS["disk_mb"],
        },
    }


def print_table(result: dict[str, Any]) -> None:
    """The same for people."""
    print(f"{result['runs']} runs with {result['samples']} samples each; {result['machine']}")
    print(f"{'':44} {'store':>10} {'JSON files':>10}")
    for name, seconds in result["in_process_s"].items():
        print_line(name, seconds, result["naive_in_process_s"].get(name))
    fresh = result["fresh_process_s"]
    print_line("list, newest 50, in a fresh process", fresh["list, newest 50"], None)
    print_line("list, all, in a fresh process", fresh["list, all"], fresh["naive list, all"])
    print_line(f"writing, {BATCH} runs at a time", result["fill_s"]["store"], result["fill_s"]["naive"])
    print(f"{'on disk':44} {result['disk_mb']['store']:7.1f} MB {result['disk_mb']['naive']:7.1f} MB")
    missed = [name for name, reached in result["reached"].items() if not reached]
    print(f"goals {GOALS}: {'all reached' if not missed else f'missed: {missed}'}")


def print_line(name: str, seconds: float, naive: float | None) -> None:
    """One line of the table, in milliseconds."""
    peer = "" if naive is None else f"{naive * 1e3:7.1f} ms"
    print(f"{name:44} {seconds * 1e3:7.1f} ms {peer}")


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=1_000)
    parser.add_argument("--database-url", help="an empty PostgreSQL database instead of SQLite")
    given = parser.parse_args()
    result = measure(given.runs, given.samples, given.database_url)
    print(json.dumps(result, indent=1)) if given.json else print_table(result)


if __name__ == "__main__":
    main()
