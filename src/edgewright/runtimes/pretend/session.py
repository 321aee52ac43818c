"""Session, profile and failures of the simulated runtime."""

import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from math import inf, nan
from pathlib import Path
from time import perf_counter_ns, sleep

import msgspec
import numpy as np

from edgewright import __version__
from edgewright.runtimes.contract import Rejected
from edgewright.runtimes.inference import choose_inference
from edgewright.runtimes.wire import SessionRequest
from edgewright.schema.arrays import Array
from edgewright.schema.model import GraphNode, Signature, TensorSpec
from edgewright.schema.ranks import compute_median_bounds
from edgewright.schema.run import Layer, LayerReport
from edgewright.system.signals import KILLED

THROTTLED_AFTER = 200
LAYER_SHARES = (0.5, 0.3, 0.2)


def version() -> str:
    return __version__


class PretendSession:
    """Session with busy waits of the time in its options; see `contract.Session`."""

    def __init__(self, request: SessionRequest) -> None:
        requested = request.options
        self._fail = requested.get("fail", "never")
        self._latency_us = _read_number(requested, "latency-us", 200)
        self._noise = _read_number(requested, "noise", 0.02)
        self._warmup = _read_number(requested, "warmup", 0)
        self._throttle = _read_number(requested, "throttle", 0)
        self._random = random.Random(_read_number(requested, "seed", 0))  # noqa: S311 - made-up times, no secrets
        self._count = 0
        self._feeds: dict[str, Array] = {}
        self.signature = Signature(inputs=(), outputs=(TensorSpec(name="sums", dtype="float64", shape=("",)),))
        self.notes: Sequence[str] = ()

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self._feeds = dict(feeds)

    def run(self) -> None:
        _fail(self._fail, "run")
        _wait_us(self.next_us())

    def next_us(self) -> float:
        """Return the time of the next inference: median × spread × factors of warm-up and throttling."""
        spread = self._random.lognormvariate(0, self._noise)
        warm = self._warmup * 0.5**self._count
        hot = self._throttle * min(1.0, self._count / THROTTLED_AFTER)
        self._count += 1
        return self._latency_us * spread * (1 + warm + hot)

    def fetch(self) -> dict[str, Array]:
        return {"sums": np.array([float(np.sum(array, dtype=np.float64)) for array in self._feeds.values()])}

    def close(self) -> None:
        self._feeds = {}


def _read_number(options: Mapping[str, str], name: str, default: float) -> float:
    """Return an option that is a finite number and not negative. Raises Rejected for others."""
    text = options.get(name, str(default))
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not 0 <= number < inf:
        raise Rejected(f"{name}={text} must be a number of at least 0")
    return number


def open_session(request: SessionRequest) -> PretendSession:
    _fail(request.options.get("fail", "never"), "open")
    return PretendSession(request)


def _wait_us(duration_us: float) -> None:
    end = perf_counter_ns() + int(duration_us * 1e3)
    while perf_counter_ns() < end:
        pass


def _fail(how: str, moment: str) -> None:
    """Fail in the way of the option `fail`: `open` when the model is opened, others in the first inference."""
    if how != "never" and (how == "open") == (moment == "open"):
        FAILURES[how]()


def _reject() -> None:
    raise Rejected("the pretend runtime rejects the model, as requested by fail=open")


def _raise() -> None:
    raise RuntimeError("the pretend runtime raises, as requested by fail=run")


def _segfault() -> None:
    print("pretend: about to read address zero", file=sys.stderr, flush=True)
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def _exit() -> None:
    os._exit(3)


def _hang() -> None:
    sleep(3600)


def _oom() -> None:
    os.kill(os.getpid(), KILLED)


def _chatter() -> None:
    os.write(1, b'{"id": 1, "result": "native code that prints to stdout"}\n')


FAILURES = {
    "open": _reject,
    "run": _raise,
    "segfault": _segfault,
    "exit": _exit,
    "hang": _hang,
    "oom": _oom,
    "chatter": _chatter,
}


def profile(request: SessionRequest, feeds: Mapping[str, Array], runs: int, folder: Path) -> None:
    """Write `trace.json`: the times of the profiled inferences and the share of the fallback."""
    session = open_session(request)
    session.bind(feeds)
    times = []
    for _ in range(runs):
        begin = perf_counter_ns()
        session.run()
        times.append((perf_counter_ns() - begin) / 1e3)
    trace = {"runs_us": times, "fallback": _read_number(request.options, "fallback", 0)}
    (folder / "trace.json").write_bytes(msgspec.json.encode(trace))


def layers(folder: Path, graph: Sequence[GraphNode]) -> LayerReport:
    """Return three generated layers and, with a fallback, a fourth on another backend."""
    trace = msgspec.json.decode((folder / "trace.json").read_bytes())
    times = np.array(trace["runs_us"])
    fallback = trace["fallback"]
    shares = [share * (1 - fallback) for share in LAYER_SHARES] + ([fallback] if fallback else [])
    rows = tuple(_layer(position, share, shares, times) for position, share in enumerate(shares))
    return LayerReport(
        layers=rows,
        via="profiler",
        whole_us=float(np.median(times)),
        partitions=2 if fallback else 1,
        asked="pretend-npu",
        inference=choose_inference(
            [times * sum(shares[:position]) for position in range(len(shares))], [times * share for share in shares]
        ),
    )


def _layer(position: int, share: float, shares: Sequence[float], times: Array) -> Layer:
    fell_back = position == len(LAYER_SHARES)
    low, high = compute_median_bounds((times * share).tolist())
    return Layer(
        position=position,
        name=f"layer{position}",
        op="Wait",
        source_nodes=(),
        unit="CPU" if fell_back else "NPU",
        backend="pretend-cpu" if fell_back else "pretend-npu",
        evidence="measured",
        start_us=float(np.median(times) * sum(shares[:position])),
        median_us=float(np.median(times) * share),
        p90_us=float(np.percentile(times, 90) * share),
        low_us=low,
        high_us=high,
    )
