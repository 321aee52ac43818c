"""Benchmark on several devices: one session on each, and its outputs compared with this machine's."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import msgspec
import numpy as np
from msgspec import Struct

from edgewright.bench.numerics import compare_outputs, find_faults
from edgewright.devices.kinds import get_state
from edgewright.devices.local import LocalDevice
from edgewright.devices.protocol import Device
from edgewright.errors import DeviceUnreachable, EdgewrightError
from edgewright.flows.benchmark.flow import BenchmarkOutcome, benchmark
from edgewright.flows.candidates import make_model_feeds
from edgewright.flows.evaluate.inference import infer
from edgewright.flows.workspace import Workspace
from edgewright.schema.arrays import Array
from edgewright.schema.devices import FailedDevice
from edgewright.schema.model import Model
from edgewright.schema.plan import BenchmarkPlan, Candidate
from edgewright.schema.run import OutputCheck

OpenWorkspace = Callable[[str], AbstractContextManager[Workspace]]


class DevicesOutcome(Struct, frozen=True, kw_only=True):
    """The outcome of all devices; comparisons are within a device."""

    outcome: BenchmarkOutcome
    failed: tuple[FailedDevice, ...] = ()


def benchmark_on(
    plan: BenchmarkPlan, names: Sequence[str], open_at: OpenWorkspace, tags: Mapping[str, str]
) -> DevicesOutcome:
    """Measure the plan on each device in turn. A device that fails leaves the others going.

    The outcome's error is the first one.

    Args:
        open_at: opens the workspace of a device by its name.

    Raises as `benchmark` for what concerns all devices, and for the device if there is only one.
    """
    found: list[BenchmarkOutcome] = []
    failed: list[FailedDevice] = []
    errors: list[EdgewrightError] = []
    with HostOutputs() as reference:
        for name in names:
            try:
                with open_at(name) as workspace:
                    own = msgspec.structs.replace(plan, device=name)
                    found.append(benchmark(own, workspace, tags, None if names == ("local",) else reference.check))
            except DeviceUnreachable as error:
                if len(names) == 1:
                    raise
                failed.append(FailedDevice(name=name, state=get_state(error), error=str(error)))
                errors.append(error)
    errors += [one.error for one in found if one.error is not None]
    outcome = BenchmarkOutcome(
        runs=tuple(run for one in found for run in one.runs),
        comparisons=tuple(comparison for one in found for comparison in one.comparisons),
        error=errors[0] if errors else None,
    )
    return DevicesOutcome(outcome=outcome, failed=tuple(failed))


@dataclass
class HostOutputs:
    """Outputs of candidates on this machine, computed once for all devices."""

    _device: LocalDevice = field(default_factory=LocalDevice)
    _known: dict[bytes, Mapping[str, Array] | str] = field(default_factory=dict)

    def __enter__(self) -> "HostOutputs":
        return self

    def __exit__(self, *error: object) -> None:
        self._device.close()

    def check(self, candidate: Candidate, model: Model, plan: BenchmarkPlan, device: Device) -> OutputCheck:
        """Compare a candidate's outputs on a device with those on this machine, on the benchmark's inputs.

        Raises the error of the device's worker.
        """
        stack = {name: array[np.newaxis] for name, array in make_model_feeds(model, plan).items()}
        expected = self._find(candidate, model, plan, stack)
        if isinstance(expected, str):
            return OutputCheck(state="unknown", why=f"this machine has nothing to compare with: {expected}")
        given = _run(candidate, model, plan, stack, device)
        try:
            numerics = compare_outputs(expected, given, None)
        except ValueError as error:
            return OutputCheck(state="failed", why=str(error))
        faults = find_faults(numerics, model.precision)
        return OutputCheck(state="failed" if faults else "ok", sqnr_db=numerics.sqnr_db, why="; ".join(faults))

    def _find(
        self, candidate: Candidate, model: Model, plan: BenchmarkPlan, stack: Mapping[str, Array]
    ) -> Mapping[str, Array] | str:
        """Return the outputs on this machine, or why there are none."""
        key = msgspec.json.encode(candidate)
        if key not in self._known:
            try:
                self._known[key] = _run(candidate, model, plan, stack, self._device)
            except EdgewrightError as error:
                self._known[key] = str(error)
        return self._known[key]


def _run(
    candidate: Candidate, model: Model, plan: BenchmarkPlan, stack: Mapping[str, Array], device: Device
) -> dict[str, Array]:
    outputs, _ = infer(
        model,
        None,
        candidate.runtime,
        stack,
        device,
        options=candidate.options,
        threads=candidate.threads or plan.threads,
        timeout_s=plan.timeout_s,
    )
    return outputs
