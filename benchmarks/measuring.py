"""Functions that the benchmarks share: the real model, facts of this machine, the text of a ratio."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from math import exp, log
from pathlib import Path

from edgewright.bench.statistics import paired_interval
from edgewright.devices.cpu import read_cpu_facts

MOBILENET = Path(__file__).parents[2] / "shared" / "data" / "models" / "mobilenet_v2.onnx"


def find_model() -> Path:
    """Return the real model. Exits if it is missing, because no other gives the documented figures."""
    path = Path(os.environ.get("EDGEWRIGHT_BENCHMARK_MODEL", MOBILENET))
    if not path.is_file():
        raise SystemExit(f"{path.name} is not here: name a model with EDGEWRIGHT_BENCHMARK_MODEL")
    return path


def describe_machine() -> str:
    facts = read_cpu_facts()
    day = datetime.now(UTC).date().isoformat()
    cores = facts.get("logical_cores", os.cpu_count())
    model = facts.get("model", platform.machine())
    return f"{day}; {model}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def format_ratio(name: str, ours: Sequence[float], peer: Sequence[float]) -> str:
    """Return a line with the median of each, and the paired ratio ours / peer with its 99 % interval."""
    ratio = paired_interval([log(a / b) for a, b in zip(ours, peer, strict=True)])
    low = exp(ratio.low) if ratio.low is not None else float("nan")
    high = exp(ratio.high) if ratio.high is not None else float("nan")
    return (
        f"{name}: {sorted(ours)[len(ours) // 2]:.4g} against {sorted(peer)[len(peer) // 2]:.4g}, "
        f"ratio {exp(ratio.value):.4f} ({low:.4f}–{high:.4f}), {len(ours)} pairs"
    )
