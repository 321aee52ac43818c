"""A device whose workers run in this process, so that a session takes milliseconds; and generated process samples."""

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, cast

from edgewright.bench.session import CandidateProcesses, PreparedCandidate, ProcessSamples
from edgewright.devices.connection import Connection
from edgewright.devices.protocol import Reading
from edgewright.errors import EdgewrightError, ModelRejected
from edgewright.runtimes import wire
from edgewright.runtimes.table import find_runtime, import_runtime
from edgewright.runtimes.wire import ClockCalibration, SessionRequest
from edgewright.runtimes.worker import RequestHandler, greet
from edgewright.schema.devices import DeviceCheck
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.schema.run import DeviceRecord as DeviceFacts

QUIET = ClockCalibration(wall_ns=100.0, cpu_ns=80.0, resolution_ns=10.0, reference_us=500.0)
NO_SENSOR = Reading(source="no sensor here")


class QuickDevice:
    """Counts every question asked to its workers, and breaks at the one that `breaks_at` says.

    Args:
        breaks_at: number of the question at which `breakage` is raised.
        breaks_on: count only questions of this kind.
        readings: readings of the sensors, in order; the last one repeats.
    """

    def __init__(
        self,
        folder: Path,
        breaks_at: int | None = None,
        breakage: BaseException | None = None,
        readings: Sequence[Reading] = (NO_SENSOR,),
        breaks_on: type[Any] = object,
    ) -> None:
        self.folder = folder
        self.breaks_at = breaks_at
        self.breakage = breakage
        self.breaks_on = breaks_on
        self.questions: list[wire.Command] = []
        self.started: list[str] = []
        self.ended = 0
        self._readings = list(readings)

    def count(self, command: wire.Command) -> None:
        self.questions.append(command)
        if self.breakage is None or not isinstance(command, self.breaks_on):
            return
        if sum(isinstance(question, self.breaks_on) for question in self.questions) - 1 == self.breaks_at:
            raise self.breakage

    def facts(self) -> DeviceFacts:
        return DeviceFacts(id="quick-1", name="quick", kind="pretend", address="here", facts={"logical_cores": 4})

    def environment(self) -> dict[str, Any]:
        return {"kernel": "none"}

    def prepare(self, runtime: str) -> None: ...

    def checks(self) -> list[DeviceCheck]:
        return []

    def system_state(self) -> dict[str, float]:
        return {"load1": 0.0, "swap_used_bytes": 0.0}

    def push(self, path: Path, sha256: str, beside: Mapping[str, Path] = MappingProxyType({})) -> str:
        return str(path)

    def pull(self, remote: str, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for file in Path(remote).iterdir():
            (path / file.name).write_bytes(file.read_bytes())

    def workspace(self) -> str:
        return str(self.folder / "on-the-device")

    def start_worker(
        self,
        runtime: str,
        affinity: Sequence[int],
        timeout_s: float,
        log: Path,
        environment: str = "",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Connection:
        self.started.append(runtime)
        log.write_text(f"{runtime} worker {len(self.started)} says hello\n")
        return cast(Connection, QuickWorker(self, runtime))

    def sensors(self) -> Reading:
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]

    def close(self) -> None:
        pass


class QuickWorker:
    """The worker's request handler without a process."""

    def __init__(self, device: QuickDevice, runtime: str) -> None:
        module = import_runtime(find_runtime(runtime))
        hello = greet(runtime, module)
        assert isinstance(hello, wire.Hello)
        self.hello = hello
        self.start_us = 1000.0
        self._device = device
        self._handler = RequestHandler(module)
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._device.ended += not self._ended
        self._ended = True

    def ask(self, command: wire.Command, kind: type[Any], expected_s: float = inf) -> Any:
        self._device.count(command)
        if isinstance(command, wire.Calibrate):
            return QUIET
        result = self._handler.answer(command)
        if isinstance(result, wire.CommandFailed):
            raise ModelRejected(f"the worker refuses ({result.kind})", result.why)
        assert isinstance(result, kind)
        return result

    def leave(self) -> None:
        self.ask(wire.Close(), wire.CommandDone)


def make_plan(*models: str, **changes: Any) -> BenchmarkPlan:
    """A plan for the pretend runtime that takes no time."""
    quick: dict[str, Any] = {"runs": 6, "processes": 3, "warmup_seconds": 0.02, "layer_runs": 3, "timeout_s": 60.0}
    options = changes.pop("options", {})
    candidates = tuple(
        Candidate(model=model, runtime="pretend", options={"latency-us": "50", **options}) for model in models or ("m",)
    )
    return BenchmarkPlan(candidates=candidates, **{**quick, **changes})


def make_candidate(folder: Path, name: str = "m", **options: str) -> CandidateProcesses:
    """Return a candidate of the simulated runtime; `fail`, `warmup`, `throttle` and others are its options."""
    from edgewright.bench.feeds import write_feeds

    feeds = folder / f"{name}.npz"
    write_feeds(feeds, {})
    plain = {key.replace("_", "-"): value for key, value in options.items()}
    request = SessionRequest(model=name, options={"latency-us": "50", **plain})
    return CandidateProcesses(
        entry=PreparedCandidate(title=f"{name} in pretend", runtime="pretend", request=request, feeds=str(feeds))
    )


def make_samples(wall_us: Sequence[float], **changes: Any) -> ProcessSamples:
    """Return process samples with these values."""
    process = ProcessSamples(
        log=Path("worker.log"), start_us=30_000.0, import_us=9_000.0, load_us=2_000.0, first_us=500.0
    )
    process.steady, process.calibration = True, QUIET
    process.memory_before, process.memory_loaded, process.memory_peak = 10_000_000, 15_000_000, 20_000_000
    process.wall_us.extend(wall_us)
    process.cpu_us.extend(wall_us)
    process.chunks = [len(wall_us)]
    for name, value in changes.items():
        setattr(process, name, value)
    return process


def failure_of(candidate: CandidateProcesses) -> EdgewrightError:
    assert candidate.failure is not None
    return candidate.failure
